"""Recorded provider responses: reading them, replaying them over HTTP, and comparing what was decoded."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    ErrorCode,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from core.model_types import Usage
from core.model_types.llm import (
    FinishPiece,
    FinishReason,
    Piece,
    ReasoningPiece,
    TextPiece,
    ToolCallPiece,
    UsagePiece,
)

KINDS: dict[str, set[ErrorCode]] = {
    "auth_invalid": {UpstreamAuthentication.code},
    "not_found_model": {UpstreamModelNotFound.code},
    "bad_request": {UpstreamBadRequest.code, ContextLengthExceeded.code},
    "unsupported_param": {UpstreamBadRequest.code},
    "content_filtered": {ContentFiltered.code},
    "rate_limited": {UpstreamRateLimited.code},
    "server": {UpstreamUnavailable.code, UpstreamOverloaded.code},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recorded exchange and what a correct decoder makes of it."""

    name: str
    kind: str
    path: str
    status: int
    headers: dict[str, str]
    streaming: bool
    request: dict[str, Any]
    body: bytes
    expected: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What was decoded: from pieces, or from the events of a completion."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    error: ErrorCode | None = None


def load(folder: Path, dialects: Iterable[str], kinds: Iterable[str] = ("chat", "responses")) -> list[Recording]:
    """Return the recordings of these dialects and kinds, in the order of their names."""
    found = []
    for dialect in dialects:
        for body in sorted((folder / dialect).glob("*.body")):
            meta = json.loads(body.with_suffix(".json").read_text("utf-8"))
            if meta["kind"] in kinds:
                found.append(_recording(f"{dialect}/{body.stem}", meta, body))
    return found


def _recording(name: str, meta: dict[str, Any], body: Path) -> Recording:
    return Recording(
        name=name,
        kind=meta["kind"],
        path=meta["path"],
        status=meta["status"],
        headers=meta["headers"],
        streaming=meta["streaming"],
        request=meta["request"],
        body=body.read_bytes(),
        expected=json.loads(body.with_suffix(".expected.json").read_text("utf-8")),
    )


def outcome_of(pieces: Iterable[Piece], error: ErrorCode | None = None) -> Outcome:
    """Join pieces as a reader would."""
    outcome = Outcome(error=error)
    for piece in pieces:
        match piece:
            case TextPiece():
                outcome.text += piece.text
            case ReasoningPiece():
                outcome.reasoning += piece.text
            case ToolCallPiece():
                _join_call(outcome.tool_calls, piece)
            case FinishPiece():
                assert outcome.finish_reason is None, "a second finish"
                outcome.finish_reason = piece.reason
            case UsagePiece():
                outcome.usage = piece.usage
    return outcome


def _join_call(calls: list[dict[str, Any]], piece: ToolCallPiece) -> None:
    if piece.index == len(calls):
        assert piece.id, "the first piece of a call has its id"
        calls.append({"id": piece.id, "name": piece.name, "arguments": ""})
    else:
        assert piece.id is None, "the id comes once"
        assert piece.name is None, "the name comes once"
    calls[piece.index]["arguments"] += piece.arguments


SUBSCRIPTION = """
subscription ($input: CompletionInput!) {
  completion(input: $input) {
    __typename
    ... on TextDelta { text }
    ... on ReasoningDelta { text }
    ... on ToolCallDelta { index id name arguments }
    ... on CompletionFinished {
      finishReason
      usage { inputTokens outputTokens cachedInputTokens reasoningTokens estimated }
    }
    ... on CompletionFailed {
      error { code message }
      spent: usage { inputTokens outputTokens cachedInputTokens reasoningTokens estimated }
    }
  }
}
"""

MUTATION = """
mutation ($input: CompletionInput!) {
  complete(input: $input) {
    message { text reasoning toolCalls { id name arguments } }
    finishReason
    invocation { usage { inputTokens outputTokens cachedInputTokens reasoningTokens estimated } }
    errors { code message }
  }
}
"""


def outcome_of_events(events: Iterable[dict[str, Any]]) -> Outcome:
    """Join the events that `SUBSCRIPTION` gives, as JSON."""
    outcome = Outcome()
    for event in events:
        match event["__typename"]:
            case "TextDelta":
                outcome.text += event["text"]
            case "ReasoningDelta":
                outcome.reasoning += event["text"]
            case "ToolCallDelta":
                piece = ToolCallPiece(event["index"], event["id"], event["name"], event["arguments"])
                _join_call(outcome.tool_calls, piece)
            case "CompletionFinished":
                outcome.finish_reason = FinishReason(event["finishReason"])
                outcome.usage = _usage_of(event["usage"])
            case "CompletionFailed":
                outcome.error = ErrorCode(event["error"]["code"])
                outcome.usage = _usage_of(event["spent"])
    return outcome


def outcome_of_payload(payload: dict[str, Any]) -> Outcome:
    """Read the payload that `MUTATION` gives, as JSON."""
    message = payload["message"] or {"text": "", "reasoning": None, "toolCalls": []}
    reason, errors, invocation = payload["finishReason"], payload["errors"], payload["invocation"]
    return Outcome(
        text=message["text"],
        reasoning=message["reasoning"] or "",
        tool_calls=message["toolCalls"],
        finish_reason=FinishReason(reason) if reason else None,
        usage=_usage_of(invocation["usage"]) if invocation else None,
        error=ErrorCode(errors[0]["code"]) if errors else None,
    )


def _usage_of(value: dict[str, Any] | None) -> Usage | None:
    if value is None:
        return None
    return Usage(
        input_tokens=int(value["inputTokens"]),
        output_tokens=int(value["outputTokens"]),
        cached_input_tokens=int(value["cachedInputTokens"]),
        reasoning_tokens=int(value["reasoningTokens"]),
        estimated=value["estimated"],
    )


def differences(outcome: Outcome, expected: dict[str, Any]) -> list[str]:
    """Return what differs from the expected result, one sentence each; nothing where all is right.

    A provider that sent no finish reason gives OTHER here. A failed completion tells no finish reason to a reader of its
    events, even where the provider had sent one.
    """
    calls = [{"name": call["name"], "arguments": json.loads(call["arguments"] or "{}")} for call in outcome.tool_calls]
    pairs: Sequence[tuple[str, Any, Any]] = (
        ("text", outcome.text, expected["text"]),
        ("reasoning", "".join(outcome.reasoning.split()), "".join(expected["reasoning"].split())),
        ("tool_calls", calls, expected["tool_calls"]),
        ("finish_reason", _reason(outcome, expected), expected["finish_reason"]),
        ("usage", _counts(outcome.usage), expected["usage"]),
    )
    found = [f"{name} is {got!r}, not {wanted!r}" for name, got, wanted in pairs if got != wanted]
    error = expected["error"]
    codes = KINDS[error["kind"]] if error else {None}
    if outcome.error not in codes:
        found.append(f"error is {outcome.error}, not {error}")
    return found


def _reason(outcome: Outcome, expected: dict[str, Any]) -> str | None:
    if expected["finish_reason"] is None and outcome.finish_reason is FinishReason.OTHER:
        return None
    if outcome.finish_reason is None and outcome.error is not None:
        wanted: str | None = expected["finish_reason"]
        return wanted
    return outcome.finish_reason


def _counts(usage: Usage | None) -> dict[str, int] | None:
    if usage is None or usage.estimated:
        return None
    return {
        "input_total": usage.input_tokens,
        "output_total": usage.output_tokens,
        "cached_input": usage.cached_input_tokens,
        "reasoning": usage.reasoning_tokens,
    }


_WELL = b'{"data": [], "models": [], "version": "0", "valid": true}'
_ACCEPTED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(_WELL), _WELL)


PIECES = 2000
"""How many pieces of a size an answer begins and ends with."""

MIDDLE_BYTES = 61
"""The pieces between them; a prime, so that they end anywhere in what repeats."""


class Replay:
    """A server that answers each recording below `/<name>/`, byte for byte, in pieces of `piece_bytes` (0: whole).

    A long one is cut into so small pieces at its beginning and its end; what lies between is more of the same.

    What only asks about it is told that all is well, so that credentials for it are valid.
    """

    def __init__(self, recordings: Iterable[Recording], port: int) -> None:
        self._recordings = {recording.name: recording for recording in recordings}
        self._port = port
        self.piece_bytes = 0

    def base_url(self, recording: Recording) -> str:
        """Return the base URL under which the recording answers."""
        return f"http://127.0.0.1:{self._port}/{recording.name}"

    @classmethod
    @asynccontextmanager
    async def serve(cls, recordings: Iterable[Recording]) -> AsyncIterator["Replay"]:
        """Open the server on a free port of loopback."""
        replay = cls(recordings, 0)
        server = await asyncio.start_server(replay._connection, "127.0.0.1", 0)
        replay._port = server.sockets[0].getsockname()[1]
        try:
            yield replay
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(_content_length(head))
                method, path = head.decode("latin-1").split(" ")[:2]
                if method == "GET" or path.endswith(("/check-api-key", "/api/show")):
                    writer.write(_ACCEPTED)
                    continue
                await self._answer(self._recordings["/".join(path.split("/")[1:3])], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, recording: Recording, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {recording.status} Recorded", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in recording.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        for piece in _pieces(recording.body, self.piece_bytes):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            if self.piece_bytes:
                await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def _pieces(body: bytes, size: int) -> Iterator[bytes]:
    """Yield a body in pieces of a size (0: whole), at most PIECES of them at its beginning and as many at its end."""
    if not size:
        yield body
        return
    middle = range(PIECES * size, len(body) - PIECES * size)
    start = 0
    while start < len(body):
        end = start + (max(size, MIDDLE_BYTES) if start in middle else size)
        if start in middle:
            end = min(end, middle.stop)
        yield body[start:end]
        start = end


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
