"""A model provider for tests: a real HTTP server that speaks the API of OpenAI and misbehaves on request.

    with FakeProvider() as provider:
        provider.answers("rate_limited", key="sk-first")
        provider.answers(text="Bonjour.", pieces=3, delay_s=0.01)
        ... a client of provider.url ...
        assert [call.key for call in provider.calls] == ["sk-first", "sk-second"]

The scenario of a request is the first of: what `answers` set for its key and model, for its key, for its model; a name of
`SCENARIOS` after the last `:` of its model or key (model `any:stall`, key `sk-any:unauthorized`); what `answers` set for
all; `text`. Alone: `python -m tests.fake_provider --port 9100`.
"""

import argparse
import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self

from tests import fake_tasks

Ending = Literal["done", "no_done", "eof", "cut", "stall"]
Usage = Literal["asked", "always", "last_chunk", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How one request is answered.

    `ending` is what follows the content of a stream: the finish reason with `[DONE]` or without, nothing at all (a clean
    end), a dropped connection, or silence on an open one. `events` follow the content of a stream in place of its finish
    reason and marker. `body` replaces the whole answer.
    """

    text: str = "Hello from the fake provider."
    pieces: int = 5
    reasoning: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    finish: str | None = "stop"
    usage: Usage = "asked"
    ending: Ending = "done"
    first_delay_s: float = 0.0
    delay_s: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    body: bytes | None = None
    events: tuple[bytes, ...] | None = None
    refuses_stream_options: bool = False
    ignores_stream: bool = False
    never_answers: bool = False
    hangs_up: bool = False


def _error(message: str, *, code: str | None = None, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_WEATHER = ("get_weather", '{"city": "Paris"}')
_TIME = ("get_time", '{"zone": "Europe/Paris"}')

SCENARIOS: Mapping[str, Scenario] = {
    # what goes well
    "text": Scenario(),
    "slow": Scenario(pieces=20, delay_s=0.05),
    "endless": Scenario(text="again and again ", pieces=100_000, delay_s=0.02),
    "reasoning": Scenario(reasoning="Let me think about this."),
    "tool": Scenario(text="", tool_calls=(_WEATHER,), finish="tool_calls"),
    "tools": Scenario(text="I will look.", tool_calls=(_WEATHER, _TIME), finish="stop"),
    "structured": Scenario(text='{"city": "Paris", "country": "France"}', pieces=4),
    "length": Scenario(finish="length"),
    "filtered_late": Scenario(finish="content_filter"),
    "no_usage": Scenario(usage="never"),
    "usage_on_last_chunk": Scenario(usage="last_chunk"),
    "no_done": Scenario(ending="no_done"),
    "no_finish": Scenario(finish=None),
    "slow_first_token": Scenario(first_delay_s=1.0),
    "not_streaming": Scenario(ignores_stream=True),
    "rejects_stream_options": Scenario(refuses_stream_options=True),
    # refusals
    "unauthorized": Scenario(status=401, body=_error("Incorrect API key provided: KEY.", code="invalid_api_key")),
    "forbidden": Scenario(status=403, body=_error("Project may not use this model.", kind="permission_error")),
    "not_found": Scenario(status=404, body=_error("The model does not exist.", code="model_not_found")),
    "no_route": Scenario(status=404, body=b'{"detail":"Not Found"}'),
    "bad_request": Scenario(status=400, body=_error("Unsupported value: 'temperature'.", code="unsupported_value")),
    "context_too_long": Scenario(
        status=400,
        body=_error("This model's maximum context length is 8 tokens.", code="context_length_exceeded"),
    ),
    "content_filtered": Scenario(status=400, body=_error("Refused by policy.", code="content_policy_violation")),
    "rate_limited": Scenario(
        status=429,
        headers={"retry-after": "7"},
        body=_error("Rate limit reached.", code="rate_limit_exceeded", kind="requests"),
    ),
    "rate_limited_silently": Scenario(status=429, body=_error("Rate limit reached.", code="rate_limit_exceeded")),
    "quota_exhausted": Scenario(
        status=429,
        body=_error("You exceeded your current quota.", code="insufficient_quota", kind="insufficient_quota"),
    ),
    "server_error": Scenario(status=500, body=_error("The server had an error.", kind="server_error")),
    "overloaded": Scenario(status=503, body=_error("The engine is overloaded.", kind="overloaded")),
    "redirect": Scenario(status=307, headers={"location": "http://127.0.0.1:1/v1/chat/completions"}, body=b""),
    # misbehaviour
    "html": Scenario(content_type="text/html; charset=utf-8", body=_PAGE),
    "html_error": Scenario(status=502, content_type="text/html", body=_PAGE),
    "wrong_type": Scenario(content_type="image/png", body=b"\x89PNG\r\n"),
    "json_error": Scenario(content_type="application/json", body=_error("No such thing.", code="model_not_found")),
    "malformed": Scenario(events=(b'data: {"choices": [{"delta": {"content": "He\n\n',)),
    "truncated": Scenario(ending="eof"),
    "cut": Scenario(ending="cut"),
    "stall": Scenario(ending="stall"),
    "silent": Scenario(never_answers=True),
    "hangs_up": Scenario(hangs_up=True),
    "huge_line": Scenario(events=(b"data: " + b"x" * (10 * 1024 * 1024) + b"\n\n",)),
    "error_in_stream": Scenario(
        events=(b'data: {"error": {"message": "Out of memory.", "type": "server_error", "code": 500}}\n\n',)
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that the server received; `json` is its body, or None where that is no JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    json: Any
    body: bytes = b""

    @property
    def key(self) -> str:
        """Return the key that it was sent with; "" for none."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def model(self) -> str:
        """Return the model that it asks for; "" for none."""
        if self.headers.get("content-type", "").startswith("multipart/form-data"):
            return str(fake_tasks.form(self).get("model", ""))
        return str(self.json.get("model", "")) if isinstance(self.json, dict) else ""

    @property
    def streams(self) -> bool:
        """Tell whether it asks for a stream."""
        return isinstance(self.json, dict) and self.json.get("stream") is True


class FakeProvider:
    """The server, in a thread of its own. `requests` are all that came, `calls` the completions among them."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.requests: list[Request] = []
        self.open_connections = 0
        self.answering = 0
        self._set: dict[tuple[str | None, str | None], Scenario] = {}
        self._at: dict[str, Scenario] = {}
        self._after: tuple[int, Scenario] | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-provider", daemon=True)

    @property
    def url(self) -> str:
        """Return the base URL that a credential names."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def address(self) -> str:
        """Return `host:port`, as an allow-list takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[Request]:
        """Return the completions asked for, in the order they came."""
        return [request for request in self.requests if request.path.endswith("/chat/completions")]

    def answers(
        self,
        scenario: str | Scenario = "text",
        *,
        key: str | None = None,
        model: str | None = None,
        **changes: Any,
    ) -> None:
        """Answer from now on by a scenario, with changes; for one key, one model, both, or (without) all."""
        base = SCENARIOS[scenario] if isinstance(scenario, str) else scenario
        self._set[key, model] = replace(base, **changes)

    def answers_after(self, count: int, scenario: str) -> None:
        """Answer by a scenario once that many more requests that ask a model have been answered well."""
        self._after = (len(self.requests) + count, SCENARIOS[scenario])

    def answers_at(self, path: str, scenario: Scenario) -> None:
        """Answer at this path by a scenario, whatever the key and the model."""
        self._at[path] = scenario

    def reset(self) -> None:
        """Forget requests and what `answers` and `answers_at` set."""
        self.requests.clear()
        self._set.clear()
        self._after = None
        self._at.clear()

    def wait_until_quiet(self, seconds: float = 5.0) -> None:
        """Wait until no answer is being given.

        Raises:
            AssertionError: one still is after `seconds`.
        """
        deadline = time.monotonic() + seconds
        while self.answering:
            assert time.monotonic() < deadline, f"{self.answering} answers are still being given"
            time.sleep(0.005)

    def scenario_of(self, request: Request) -> Scenario:
        """Return how a request is answered."""
        if request.path in self._at:
            return self._at[request.path]
        if self._after is not None and len(self.requests) > self._after[0]:
            return self._after[1]
        key, model = request.key, request.model
        for place in ((key, model), (key, None), (None, model)):
            if place in self._set:
                return self._set[place]
        for name in (model.rpartition(":")[2], key.rpartition(":")[2]):
            if name in SCENARIOS:
                return SCENARIOS[name]
        return self._set.get((None, None), SCENARIOS["text"])

    def start(self) -> Self:
        """Listen on loopback."""
        self._thread.start()
        self._ready.wait()
        return self

    def stop(self) -> None:
        """Close the server and all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        listening = self._loop.create_server(
            lambda: _Connection(self, self._loop), "127.0.0.1", self.port, backlog=4096
        )
        server = self._loop.run_until_complete(listening)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


class _GoneError(Exception):
    """The client has left."""


class _Connection(asyncio.StreamReaderProtocol):
    """One client connection. Notices at once when the client leaves, also while nothing is being sent."""

    def __init__(self, provider: FakeProvider, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(asyncio.StreamReader(loop=loop), self._serve, loop=loop)
        self._provider = provider
        self._gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._provider.open_connections += 1
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._provider.open_connections -= 1
        self._gone.set()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:
        self._gone.set()
        return super().eof_received()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self._gone.is_set():
                request = await _read(reader)
                self._provider.requests.append(request)
                self._provider.answering += 1
                try:
                    await self._answer(request, writer)
                finally:
                    self._provider.answering -= 1
        except (_GoneError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        scenario = self._provider.scenario_of(request)
        if scenario.hangs_up:
            raise _GoneError
        if scenario.never_answers:
            await self._gone.wait()
            raise _GoneError
        if request.path.endswith("/models") and scenario.status == 200 and scenario.body is None:
            await self._send(writer, 200, {}, _models(), "application/json")
        elif scenario.refuses_stream_options and "stream_options" in (request.json or {}):
            refusal = _error("Unknown field: stream_options", kind="invalid_request_error")
            await self._send(writer, 400, {}, refusal, "application/json")
        elif scenario.body is not None:
            body = scenario.body.replace(b"KEY", request.key.encode())
            await self._send(
                writer, scenario.status, scenario.headers, body, scenario.content_type or "application/json"
            )
        elif request.streams and not scenario.ignores_stream:
            await self._stream(writer, request, scenario)
        elif (sound := fake_tasks.sound(request)) is not None:
            await self._sound(writer, scenario, *sound)
        else:
            await self._pause(scenario.first_delay_s)
            task = fake_tasks.answer(request, usage=scenario.usage != "never")
            body, kind = task or (_completion(request, scenario), "application/json")
            if task is not None and scenario.ending in {"eof", "cut", "stall"}:
                await self._half(writer, body, kind, stalls=scenario.ending == "stall")
            await self._send(writer, 200, scenario.headers, body, kind)

    async def _send(
        self, writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], body: bytes, kind: str
    ) -> None:
        lengths = {"content-type": kind, "content-length": str(len(body))}
        writer.write(_head(status, {**lengths, **headers}) + body)
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, request: Request, scenario: Scenario) -> None:
        kind = scenario.content_type or "text/event-stream; charset=utf-8"
        head = {"content-type": kind, "transfer-encoding": "chunked", **scenario.headers}
        writer.write(_head(scenario.status, head))
        await self._pause(scenario.first_delay_s)
        for number, event in enumerate(_content(request, scenario)):
            if number:
                await self._pause(scenario.delay_s)
            await self._write(writer, event)
        if scenario.ending == "stall":
            await self._gone.wait()
        if scenario.ending in {"stall", "cut"}:
            raise _GoneError
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _half(self, writer: asyncio.StreamWriter, body: bytes, kind: str, *, stalls: bool) -> None:
        head = _head(200, {"content-type": kind, "content-length": str(len(body))})
        writer.write(head + body[: len(body) // 2])
        await writer.drain()
        if stalls:
            await self._gone.wait()
        raise _GoneError

    async def _sound(self, writer: asyncio.StreamWriter, scenario: Scenario, content: bytes, kind: str) -> None:
        head = {"content-type": scenario.content_type or kind, "transfer-encoding": "chunked", **scenario.headers}
        writer.write(_head(scenario.status, head))
        await self._pause(scenario.first_delay_s)
        size = max(1, -(-len(content) // scenario.pieces))
        for start in range(0, len(content), size):
            if start:
                await self._pause(scenario.delay_s)
            await self._write(writer, content[start : start + size])
        if scenario.ending == "stall":
            await self._gone.wait()
        if scenario.ending in {"stall", "cut", "eof"}:
            raise _GoneError
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self._gone.is_set():
            raise _GoneError
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return
        raise _GoneError


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    fields = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    if headers.get("transfer-encoding") == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    is_json = headers.get("content-type", "").startswith("application/json")
    value = json.loads(body) if body and is_json else None
    return Request(method=method, path=path, headers=headers, json=value, body=body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return body


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Fake", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# ---- bodies


def _content(request: Request, scenario: Scenario) -> Iterator[bytes]:
    """Yield the events of a stream, and what its ending says of the end."""
    yield _event(request, {"role": "assistant", "content": ""})
    if scenario.reasoning:
        for piece in _cut(scenario.reasoning, scenario.pieces):
            yield _event(request, {"reasoning_content": piece})
    for piece in _cut(scenario.text, scenario.pieces):
        yield _event(request, {"content": piece})
    for index, (name, arguments) in enumerate(scenario.tool_calls):
        yield from _call_events(request, index, name, arguments)
    yield from scenario.events or ()
    if scenario.ending in {"done", "no_done"} and scenario.events is None:
        yield from _end(request, scenario)


def _end(request: Request, scenario: Scenario) -> Iterator[bytes]:
    usage = _usage(scenario)
    asked = bool(((request.json or {}).get("stream_options") or {}).get("include_usage"))
    on_last = scenario.usage == "last_chunk"
    yield _event(request, {}, finish=scenario.finish, usage=usage if on_last else None)
    if scenario.usage == "always" or (scenario.usage == "asked" and asked):
        yield _sse({**_envelope(request, "chat.completion.chunk"), "choices": [], "usage": usage})
    if scenario.ending == "done":
        yield b"data: [DONE]\n\n"


def _call_events(request: Request, index: int, name: str, arguments: str) -> Iterator[bytes]:
    first = {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    yield _event(request, {"tool_calls": [first]})
    for piece in _cut(arguments, 3):
        yield _event(request, {"tool_calls": [{"index": index, "function": {"arguments": piece}}]})


def _completion(request: Request, scenario: Scenario) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": scenario.text or None}
    if scenario.reasoning:
        message["reasoning_content"] = scenario.reasoning
    if scenario.tool_calls:
        message["tool_calls"] = [
            {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for index, (name, arguments) in enumerate(scenario.tool_calls)
        ]
    body = _envelope(request, "chat.completion")
    body["choices"] = [{"index": 0, "message": message, "finish_reason": scenario.finish}]
    if scenario.usage != "never":
        body["usage"] = _usage(scenario)
    return json.dumps(body).encode()


def _event(
    request: Request, delta: dict[str, Any], *, finish: str | None = None, usage: dict[str, Any] | None = None
) -> bytes:
    body = _envelope(request, "chat.completion.chunk")
    body["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
    if usage is not None:
        body["usage"] = usage
    return _sse(body)


def _sse(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _envelope(request: Request, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 1_700_000_000, "model": request.model}


def _usage(scenario: Scenario) -> dict[str, Any]:
    """Count 11 tokens of input, 4 of them cached; of output one a piece, the reasoning's among them."""
    reasoning = sum(1 for _ in _cut(scenario.reasoning, scenario.pieces))
    output = sum(1 for _ in _cut(scenario.text, scenario.pieces)) + len(scenario.tool_calls)
    return {
        "prompt_tokens": 11,
        "completion_tokens": output + reasoning,
        "total_tokens": 11 + output + reasoning,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _models() -> bytes:
    data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fake"} for name in SCENARIOS]
    return json.dumps({"object": "list", "data": data}).encode()


def _cut(text: str, pieces: int) -> Iterator[str]:
    """Cut a text into at most that many pieces; a text shorter than that is repeated where it says so itself."""
    if len(text) < pieces and text.endswith(" "):
        for _ in range(pieces):
            yield text
        return
    size = max(-(-len(text) // pieces), 1)
    for start in range(0, len(text), size):
        yield text[start : start + size]


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a fake model provider on loopback.")
    parser.add_argument("--port", type=int, default=9100)
    provider = FakeProvider(parser.parse_args().port).start()
    print(
        f"{provider.url}\nmodel names: any text, or one that ends in a colon and one of: {', '.join(SCENARIOS)}",
        flush=True,
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        provider.stop()


if __name__ == "__main__":
    main()
