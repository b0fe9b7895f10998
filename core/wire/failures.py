"""What a provider's refusal means: status, headers and body of an error, in any dialect, to one class of ours."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from core.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamPermission,
    UpstreamProtocol,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from core.secret import Secret
from core.wire.waiting import parse_wait, retry_after_of

MESSAGE_LIMIT = 300
_READ_LIMIT = 4000

# Codes and types as the providers spell them, lower case; the most telling class first.
_CODES: tuple[tuple[type[ModelyardError], frozenset[str]], ...] = (
    (
        UpstreamQuotaExhausted,
        frozenset(
            {
                "insufficient_quota",
                "credit_balance_exhausted",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
                "enforced_spend_limit_reached",
                "contract_spend_limit_reached",
                "billing_hard_limit_reached",
                "billing_not_active",
                "billing_error",
                "insufficient_balance",
                "quota_exceeded",
            }
        ),
    ),
    (
        ContextLengthExceeded,
        frozenset({"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"}),
    ),
    (
        ContentFiltered,
        frozenset(
            {
                "content_filter",
                "content_policy_violation",
                "responsibleaipolicyviolation",
                "moderation_blocked",
                "data_inspection_failed",
                "prohibited_content",
                "invalid_prompt",
            }
        ),
    ),
    (
        UpstreamAuthentication,
        frozenset(
            {
                "invalid_api_key",
                "authentication_error",
                "api_key_invalid",
                "invalid_authentication",
                "unauthenticated",
                "unauthorized",
            }
        ),
    ),
    (
        UpstreamModelNotFound,
        frozenset(
            {
                "model_not_found",
                "deploymentnotfound",
                "invalid_model",
                "not_found_error",
                "model_not_supported",
            }
        ),
    ),
    (
        UpstreamPermission,
        frozenset(
            {
                "missing_permissions",
                "permission_error",
                "permission_denied",
                "failed_precondition",
                "unsupported_country_region_territory",
            }
        ),
    ),
    (
        UpstreamRateLimited,
        frozenset(
            {
                "rate_limit_exceeded",
                "rate_limit_error",
                "slow_down",
                "resource_exhausted",
                "too_many_requests",
                "too_many_concurrent_requests",
            }
        ),
    ),
    (
        UpstreamOverloaded,
        frozenset({"overloaded_error", "overloaded", "unavailable", "engine_overloaded_error", "system_busy"}),
    ),
    (UpstreamTimeout, frozenset({"timeout_error", "deadline_exceeded"})),
)

# Words for those who send no telling code. Read only where the status is one of these.
_WORDS: tuple[tuple[frozenset[int], type[ModelyardError], re.Pattern[str]], ...] = (
    (
        frozenset({200, 400, 402, 403, 429}),
        UpstreamQuotaExhausted,
        re.compile(
            r"exceeded your current quota|insufficient (?:account )?(?:balance|credits?|funds|quota)"
            r"|credit balance is too low|out of credits|PerDay|API calls / month",
            re.IGNORECASE,
        ),
    ),
    (
        frozenset({200, 400, 413, 422, 500}),
        ContextLengthExceeded,
        re.compile(
            r"maximum context length|context length exceeded|context window|context size|prompt is too long"
            r"|input token count .{0,40} exceeds|reduce the length of the (?:messages|prompt)"
            r"|too many (?:input )?tokens|exceeds the (?:maximum )?context length",
            re.IGNORECASE,
        ),
    ),
    (
        frozenset({200, 400, 403, 422, 498}),
        ContentFiltered,
        re.compile(
            r"content management policy|violat\w+ .{0,80}(?:content|usage) polic|content polic\w+ violation"
            r"|\bblocked (?:in|out)put",
            re.IGNORECASE,
        ),
    ),
    (
        frozenset({400, 403, 422}),
        UpstreamAuthentication,
        re.compile(
            r"(?:api[ _]key|token) (?:is )?(?:not valid|invalid)|(?:invalid|incorrect) (?:api[ _]key|token)",
            re.IGNORECASE,
        ),
    ),
    (
        frozenset({200, 400, 403, 422}),
        UpstreamModelNotFound,
        re.compile(r"model\b.{0,120}?(?:does not exist|not found|is not available|not exist)", re.IGNORECASE),
    ),
)

_STATUSES: Mapping[int, type[ModelyardError]] = {
    401: UpstreamAuthentication,
    402: UpstreamQuotaExhausted,
    403: UpstreamPermission,
    404: UpstreamModelNotFound,
    408: UpstreamTimeout,
    410: UpstreamModelNotFound,
    425: UpstreamOverloaded,
    429: UpstreamRateLimited,
    498: UpstreamAuthentication,
    503: UpstreamOverloaded,
    504: UpstreamTimeout,
    529: UpstreamOverloaded,
}

_SENTENCES: Mapping[type[ModelyardError], str] = {
    ContentFiltered: "The provider's content filter refused the request.",
    ContextLengthExceeded: "The input is longer than the model takes.",
    UpstreamAuthentication: "The provider does not accept the key.",
    UpstreamBadRequest: "The provider refuses the request.",
    UpstreamModelNotFound: "The provider does not know this model, or not at this address.",
    UpstreamOverloaded: "The provider has no capacity at the moment.",
    UpstreamPermission: "The key may not do this at the provider.",
    UpstreamProtocol: "The provider's answer cannot be read.",
    UpstreamQuotaExhausted: "The provider account is out of money or quota.",
    UpstreamRateLimited: "The provider limits the rate of this key.",
    UpstreamTimeout: "The provider did not answer in time.",
    UpstreamUnavailable: "The provider failed.",
}

_WAITING = (UpstreamRateLimited, UpstreamOverloaded)
_INVALID_REQUEST_TYPES = frozenset({"invalid_request_error", "invalid_argument", "bad_request", "validation_error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The parts of an error body that tell something, whatever its shape. `codes` are lower case, the surest first.

    `is_brief`: the limits that it names are those of a minute, whatever its words say of quota and billing.
    """

    message: str = ""
    codes: tuple[str, ...] = ()
    status: int | None = None
    retry_after: float | None = None
    is_brief: bool = False


def failure(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Iterable[str] = (),
    now: float | None = None,
) -> ModelyardError:
    """Return the error that a response of status 400 and above stands for.

    `secrets` are the values that the call sent and that no message may repeat. `now` (seconds since the epoch) serves
    Retry-After dates where the response has no Date header, as `waiting` says.
    """
    refusal = read_refusal(body)
    return _named(status, refusal, headers, secrets, now)


def failure_in_stream(error: object, *, secrets: Iterable[str] = ()) -> ModelyardError:
    """Return the error that an error object inside a 200 stands for."""
    refusal = _refusal_of(error)
    return _named(refusal.status or 200, refusal, {}, secrets, None)


def read_refusal(body: bytes) -> Refusal:
    """Return what an error body tells; a web page or bytes without meaning tell little."""
    try:
        return _refusal_of(msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError):
        return Refusal(message=_plain(body.decode("utf-8", "replace").strip()))


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a provider's words fit to be shown: one line, at most 300 characters, without keys or parts of keys."""
    if len(text) > _READ_LIMIT:
        text = text[:_READ_LIMIT].rpartition(" ")[0]  # no half of a key at the cut
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    for secret in sorted({secret.strip() for secret in secrets}, key=len, reverse=True):
        if len(secret) >= 12:
            line = line.replace(secret, "***")
        elif len(secret) >= 4:
            line = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", line)
    line = _KEY_LIKE.sub("***", line)
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1].rstrip() + "…"


def secrets_of(values: Mapping[str, object]) -> tuple[str, ...]:
    """Return the secret values among those of a credential, whole and line by line, to be kept out of messages."""
    found: list[str] = []
    for value in values.values():
        if isinstance(value, Secret):
            whole = value.reveal()
            found += [whole, *(part for line in whole.splitlines() for part in re.split(r'[\s"]+', line))]
    return tuple(part for part in dict.fromkeys(found) if len(part) >= 4)


# Keys by their usual prefixes, and echoes of keys with the middle left out (`sk-ab***yz`, `sk-ab...yz`).
_KEY_LIKE = re.compile(
    r"(?<![\w-])(?:"
    r"(?:sk|pk|rk|gsk|xai|hf|nvapi|AIza|key|api)[-_][\w-]{8,}[\w*.-]*"
    r"|[\w-]{0,80}\*{3,}[\w*-]*"
    r"|(?=[\w-]{0,80}\d)[\w-]{1,80}(?:\.{3,}|…)[\w-]{2,}"
    r"|(?:sk|pk|rk|gsk|xai|hf|nvapi)[-_][\w-]{0,80}(?:\.{3,}|…)[\w-]*"
    r")"
)


def _named(
    status: int, refusal: Refusal, headers: Mapping[str, str], secrets: Iterable[str], now: float | None
) -> ModelyardError:
    kind = _kind(status, refusal)
    message = _SENTENCES[kind]
    words = clean(refusal.message, secrets)
    if words:
        message = f"{message} The provider says: {words}"
    elif status >= 400:
        message = f"{message} (HTTP status {status})"
    retry_after = None
    if issubclass(kind, _WAITING):
        retry_after = retry_after_of(headers, now)
        retry_after = refusal.retry_after if retry_after is None else retry_after
    return kind(message, retry_after=retry_after)


def _kind(status: int, refusal: Refusal) -> type[ModelyardError]:
    for kind, codes in _CODES:
        if not codes.isdisjoint(refusal.codes):
            if kind is UpstreamRateLimited and _is_exhausted(refusal):
                return UpstreamQuotaExhausted
            return kind
    for statuses, kind, words in _WORDS:
        if kind is UpstreamQuotaExhausted and refusal.is_brief:
            continue
        if status in statuses and words.search(refusal.message[:_READ_LIMIT]):
            return kind
    if status in _STATUSES:
        return _STATUSES[status]
    if status >= 500:
        return UpstreamUnavailable
    if status >= 400 or not _INVALID_REQUEST_TYPES.isdisjoint(refusal.codes):
        return UpstreamBadRequest
    return UpstreamUnavailable


def _is_exhausted(refusal: Refusal) -> bool:
    return not refusal.is_brief and _WORDS[0][2].search(refusal.message[:_READ_LIMIT]) is not None


# ---- bodies


def _refusal_of(value: object) -> Refusal:
    """Read `{"error": {...} or "text"}`, `{"detail": ...}`, `{"message": ...}`, a list of one of these, or text."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return Refusal(message=value if isinstance(value, str) else "")
    for wrapper in ("error", "detail", "errors"):
        inner = value.get(wrapper)
        if isinstance(inner, (dict, str, list)) and inner:
            return _fields({**value, **_first(inner)})
    return _fields(value)


def _first(inner: Any) -> dict[str, Any]:
    if isinstance(inner, list):
        inner = inner[0]
    if isinstance(inner, dict):
        return inner
    return {"message": str(inner)}


def _fields(value: Mapping[str, Any]) -> Refusal:
    details = value.get("details")
    more = [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []
    if isinstance(details, dict):
        more = [details]
    nested = [part for part in (value.get("innererror"), value.get("metadata")) if isinstance(part, dict)]
    parts = (value, *more, *nested)
    codes = [
        part[name].strip().lower()
        for name in ("code", "reason", "error_code", "status", "type")
        for part in parts
        if isinstance(part.get(name), str)
    ]
    message = _message(value, nested, more)
    limits = f"{message} {[part.get('violations') for part in more]}"
    return Refusal(
        message=message,
        codes=tuple(codes),
        is_brief="PerMinute" in limits and "PerDay" not in limits,
        status=_status(value),
        retry_after=next(
            (wait for part in more if (wait := parse_wait(str(part.get("retryDelay", "")))) is not None), None
        ),
    )


def _message(value: Mapping[str, Any], nested: list[dict[str, Any]], more: list[dict[str, Any]]) -> str:
    """Return the message; where a router in between says only that something failed, with what it was told."""
    message = next((value[name] for name in ("message", "msg", "detail") if isinstance(value.get(name), str)), "")
    raw = next((part["raw"] for part in nested if isinstance(part.get("raw"), str)), "")
    per_day = any("PerDay" in str(part.get("violations")) for part in more)
    return ": ".join(part for part in (message, raw) if part) + (" (PerDay quota)" if per_day else "")


def _status(value: Mapping[str, Any]) -> int | None:
    for name in ("status_code", "code", "status"):
        number = value.get(name)
        if isinstance(number, str) and number.isdecimal():
            number = int(number)
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    return None


def _plain(text: str) -> str:
    if looks_like_html(text):
        return "a web page (HTML) instead of an error message"
    return text


def looks_like_html(text: str) -> bool:
    """Tell whether a body is a web page."""
    start = text[:512].lstrip("\ufeff \t\r\n").lower()
    return start.startswith(("<!doctype", "<html", "<head", "<body", "<?xml"))
