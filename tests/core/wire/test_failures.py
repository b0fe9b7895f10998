"""What a provider's refusal becomes, and that no message repeats a key."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamPermission,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from core.secret import Secret
from core.wire.failures import clean, failure, failure_in_stream, secrets_of
from core.wire.waiting import parse_wait, retry_after_of

NOW = 1_790_000_000.0
KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"


def openai(message: str = "m", *, code: Any = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def gemini_limit(*limits: str) -> dict[str, Any]:
    """Return what Gemini says of every limit of its quotas, in the same words; only the ids tell how long it lasts."""
    words = "You exceeded your current quota, please check your plan and billing details."
    violations = [{"quotaId": f"GenerateRequests{limit}PerProjectPerModel-FreeTier"} for limit in limits]
    details = [{"violations": violations}, {"retryDelay": "37s"}]
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": words, "details": details}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        # OpenAI and those who copy it
        (401, openai(code="invalid_api_key"), UpstreamAuthentication),
        (401, {}, UpstreamAuthentication),
        (403, openai(code="unsupported_country_region_territory"), UpstreamPermission),
        (403, {}, UpstreamPermission),
        (404, openai(code="model_not_found"), UpstreamModelNotFound),
        (400, openai(code="model_not_found"), UpstreamModelNotFound),
        (400, openai("The model `x` does not exist"), UpstreamModelNotFound),
        (400, openai(code="unsupported_value", kind="invalid_request_error"), UpstreamBadRequest),
        (400, openai(code="context_length_exceeded"), ContextLengthExceeded),
        (400, openai("This model's maximum context length is 8192 tokens."), ContextLengthExceeded),
        (400, openai("the request exceeds the available context size", kind="exceed_context_size_error"), ContextLengthExceeded),
        (400, openai(code="content_policy_violation"), ContentFiltered),
        (429, openai(code="rate_limit_exceeded", kind="requests"), UpstreamRateLimited),
        (429, openai("Increase it at https://platform/account/billing", code="rate_limit_exceeded"), UpstreamRateLimited),
        (429, openai(code="slow_down"), UpstreamRateLimited),
        (429, openai(code="insufficient_quota", kind="insufficient_quota"), UpstreamQuotaExhausted),
        (429, openai(kind="insufficient_quota", code="credit_balance_exhausted"), UpstreamQuotaExhausted),
        (429, openai(kind="insufficient_quota"), UpstreamQuotaExhausted),
        (429, openai("You exceeded your current quota, please check your plan"), UpstreamQuotaExhausted),
        (402, openai("Insufficient Balance"), UpstreamQuotaExhausted),
        (500, openai(kind="server_error"), UpstreamUnavailable),
        (502, {}, UpstreamUnavailable),
        (503, openai("The engine is currently overloaded"), UpstreamOverloaded),
        (504, {}, UpstreamTimeout),
        (529, {}, UpstreamOverloaded),
        (418, {}, UpstreamBadRequest),
        (422, {"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]}, UpstreamBadRequest),
        # Azure
        (400, {"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, ContentFiltered),
        (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, UpstreamModelNotFound),
        (401, {"error": {"code": "401", "message": "wrong key or region"}}, UpstreamAuthentication),
        # Anthropic
        (401, {"type": "error", "error": {"type": "authentication_error", "message": "x"}}, UpstreamAuthentication),
        (402, {"type": "error", "error": {"type": "billing_error", "message": "x"}}, UpstreamQuotaExhausted),
        (400, {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}, ContextLengthExceeded),
        (400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}, UpstreamQuotaExhausted),
        (429, {"error": {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}}, UpstreamQuotaExhausted),
        (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}, UpstreamOverloaded),
        # Gemini
        (400, {"error": {"status": "INVALID_ARGUMENT", "message": "API key not valid.", "details": [{"reason": "API_KEY_INVALID"}]}}, UpstreamAuthentication),
        (400, [{"error": {"status": "INVALID_ARGUMENT", "message": "API key not valid. Please pass one."}}], UpstreamAuthentication),
        (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [{"violations": [{"quotaId": "RequestsPerMinute"}]}]}}, UpstreamRateLimited),
        (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow", "details": [{"violations": [{"quotaId": "RequestsPerDay"}]}]}}, UpstreamQuotaExhausted),
        (429, gemini_limit("PerMinute"), UpstreamRateLimited),
        (429, [gemini_limit("PerMinute")], UpstreamRateLimited),
        (429, gemini_limit("PerDay"), UpstreamQuotaExhausted),
        (429, gemini_limit("PerMinute", "PerDay"), UpstreamQuotaExhausted),
        (429, {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": json.dumps(gemini_limit("PerMinute"))}}}, UpstreamRateLimited),
        # Cohere, ElevenLabs, FastAPI, Ollama
        (498, {"message": "invalid token"}, UpstreamAuthentication),
        (498, {"message": "blocked output: please try again with another prompt"}, ContentFiltered),
        (400, {"message": "blocked input: please try again with another prompt"}, ContentFiltered),
        (401, {"detail": {"status": "quota_exceeded", "message": "no characters left"}}, UpstreamQuotaExhausted),
        (404, {"detail": "Not Found"}, UpstreamModelNotFound),
        (404, {"error": "model 'x' not found"}, UpstreamModelNotFound),
        (400, {"object": "error", "message": "too many input tokens", "code": 40303}, ContextLengthExceeded),
    ],
)  # fmt: skip
def test_a_refusal_gets_the_class_that_says_what_to_do(status: int, body: Any, expected: type[ModelyardError]) -> None:
    assert type(failure(status, {}, json.dumps(body).encode())) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            {"error": {"message": "m", "type": "invalid_request_error", "status_code": 400}},
            UpstreamBadRequest,
        ),
        ({"error": {"message": "Token limit reached", "code": 400}}, UpstreamBadRequest),
        ({"error": {"message": "m", "type": "invalid_request_error"}}, UpstreamBadRequest),
        ({"error": {"message": "m", "type": "server_error"}}, UpstreamUnavailable),
        ({"error": {"message": "m", "type": "overloaded_error"}}, UpstreamOverloaded),
        ({"error": {"message": "m", "code": 429}}, UpstreamRateLimited),
        ({"error": "something broke"}, UpstreamUnavailable),
        ({"object": "error", "message": "m", "code": "503"}, UpstreamOverloaded),
        ({"detail": "m"}, UpstreamUnavailable),
    ],
)
def test_an_error_inside_a_stream_gets_its_class_without_a_status(error: Any, expected: type[ModelyardError]) -> None:
    assert type(failure_in_stream(error)) is expected


def test_the_message_says_what_is_wrong_and_then_the_providers_words() -> None:
    refusal = failure(404, {}, json.dumps(openai("The model `x` does not exist.")).encode())

    assert refusal.message == (
        "The provider does not know this model, or not at this address. "
        "The provider says: The model `x` does not exist."
    )


def test_a_router_that_only_passes_an_error_on_is_quoted_with_what_it_was_told() -> None:
    body = {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "model is busy"}}}

    assert "Provider returned error: model is busy" in failure(429, {}, json.dumps(body).encode()).message


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html>secret</html>", b"\n <HTML><body>secret", b"\xef\xbb\xbf<html>secret"]
)
def test_a_web_page_is_told_in_a_sentence(page: bytes) -> None:
    message = failure(502, {}, page).message

    assert message == "The provider failed. The provider says: a web page (HTML) instead of an error message"


@pytest.mark.parametrize("body", [b"", b"   ", b"{}", b"[]", b"null", b'{"error": null}', b'{"error": {}}'])
def test_an_empty_body_leaves_the_status(body: bytes) -> None:
    assert failure(500, {}, body).message == "The provider failed. (HTTP status 500)"


@pytest.mark.parametrize(
    "body", [b"\xff\xfe\x00", b'{"error": ', b"[[[[", b"[" * 60_000, b'{"error": [[]]}', b"x" * 100_000]
)
def test_any_bytes_give_an_error_and_never_a_crash(body: bytes) -> None:
    refusal = failure(500, {}, body)

    assert type(refusal) is UpstreamUnavailable
    assert len(refusal.message) < 400


@settings(max_examples=60)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "status", "detail", "details", "metadata", "violations", "raw", "retryDelay"]), inner)))  # fmt: skip
def test_any_json_gives_an_error_and_never_a_crash(body: Any) -> None:
    assert isinstance(failure(400, {}, json.dumps(body).encode()), ModelyardError)
    assert isinstance(failure_in_stream(body), ModelyardError)


# ---- words


def test_words_are_one_line_of_at_most_300_characters() -> None:
    assert clean("a\n\tb\x1b[31m\u202ec\x00") == "a b [31m c"
    assert len(clean("word " * 200)) == 300
    assert clean("word " * 200).endswith("…")


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"Incorrect API key provided: {KEY[:12]}********************{KEY[-4:]}.",
        f"Bad key {KEY[:8]}...{KEY[-4:]}",
        f"Bad key {KEY[:8]}…{KEY[-4:]}",
        f"header 'Bearer {KEY}' refused",
        f"{KEY}{KEY}",
    ],
)
def test_neither_a_key_nor_its_beginning_or_end_is_repeated(text: str) -> None:
    shown = clean(text, [KEY])

    assert KEY not in shown
    assert KEY[:8] not in shown
    assert KEY[-4:] not in shown
    assert "***" in shown


@pytest.mark.parametrize("key", ["local-secret-1234", "pa$$word!", "hunter22", "EMPTY"])
def test_a_key_without_a_usual_form_is_not_repeated_either(key: str) -> None:
    assert key not in clean(f"the key {key} is wrong", [key])
    assert key not in clean(f'{{"key":"{key}"}}', [key])


def test_a_key_of_another_caller_is_not_repeated() -> None:
    assert "sk-live" not in clean("upstream said: sk-live-0123456789abcdef is out of money")


@pytest.mark.parametrize(
    "text", ["Please wait... then retry", "3.5 tokens", "key-value store", "use max_completion_tokens"]
)
def test_words_that_are_no_keys_stay(text: str) -> None:
    assert clean(text, ["", "abc"]) == text


def test_the_secrets_of_a_credential_are_its_secret_fields_whole_and_in_parts() -> None:
    found = secrets_of(
        {
            "base_url": "https://x.example",
            "api_key": Secret(KEY),
            "extra_headers": Secret("X-Key: deep-value\nX-B: other1"),
        }
    )

    assert KEY in found
    assert "deep-value" in found
    assert "other1" in found
    assert "https://x.example" not in found


def test_a_refusal_that_echoes_a_secret_header_is_cleaned() -> None:
    secrets = secrets_of({"extra_headers": Secret("X-Key: deep-value-77")})

    refusal = failure(403, {}, b'{"message": "X-Key deep-value-77 is blocked"}', secrets=secrets)

    assert "deep-value" not in refusal.message


# ---- waiting


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("12ms", 0.012),
        ("8.64s", 8.64),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("1m30ms", 60.03),
        ("37s", 37.0),
        ("999999999", 604800.0),
        ("Mon, 21 Sep 2026 14:13:30 GMT", 10.0),
        ("2026-09-21T14:13:30Z", 10.0),
        ("1790000005", 5.0),
        ("1790000005000", 5.0),
        ("Mon, 21 Sep 2020 14:13:30 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("s", None),
    ],
)
def test_a_wait_is_read_in_every_syntax(text: str, seconds: float | None) -> None:
    assert parse_wait(text, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after": "Mon, 21 Sep 2026 14:13:30 GMT", "date": "Mon, 21 Sep 2026 14:13:00 GMT"}, 30.0),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-reset-tokens": "12ms"}, 360.0),
        (
            {
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-requests": "99",
                "x-ratelimit-reset-tokens": "12ms",
                "x-ratelimit-remaining-tokens": "0",
            },
            0.012,
        ),
        ({"x-ratelimit-reset-tokens": "500"}, 500.0),
        (
            {
                "anthropic-ratelimit-requests-reset": "2026-09-21T14:14:00Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-09-21T14:13:40Z",
                "date": "Mon, 21 Sep 2026 14:13:00 GMT",
            },
            40.0,
        ),
        ({"x-ratelimit-reset": "1790000009000"}, 9.0),
        ({}, None),
    ],
)
def test_the_surest_header_tells_the_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_of(headers, NOW) == pytest.approx(seconds)


def test_a_date_is_read_where_the_server_does_not_tell_its_time() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)

    wait = failure(429, {"retry-after": later}, b"{}").retry_after

    assert wait is not None
    assert 3600 < wait <= 7200


def test_only_a_limit_or_an_overload_carries_a_wait() -> None:
    headers = {"retry-after": "7"}

    assert failure(429, headers, b"{}").retry_after == 7.0
    assert failure(503, headers, b"{}").retry_after == 7.0
    assert failure(400, headers, b"{}").retry_after is None
    assert failure(429, headers, json.dumps(openai(code="insufficient_quota")).encode()).retry_after is None


def test_a_wait_in_the_body_serves_where_no_header_has_one() -> None:
    assert failure(429, {}, json.dumps(gemini_limit("PerMinute")).encode()).retry_after == 37.0
