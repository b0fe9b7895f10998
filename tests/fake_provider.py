"""A model provider for tests: a real HTTP server that speaks every dialect and misbehaves on request.

    with FakeProvider() as provider:
        provider.answers("rate_limited", key="sk-first")
        provider.answers(text="Bonjour.", pieces=3, delay_s=0.01)
        ... a client of provider.url ...
        assert [call.key for call in provider.calls] == ["sk-first", "sk-second"]

The path and the headers of a request tell its dialect. The scenario of a request is the first of: what `answers` set for its key and model, for its key, for its model; a name of
`SCENARIOS` after the last `:` of its model or key (model `any:stall`, key `sk-any:unauthorized`); what `answers` set for
all; `text`. Alone: `python -m tests.fake_provider --port 9100`.
"""

import argparse
import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from tests import fake_tasks
from tests.fake_dialects import dialect_of, is_call
from tests.fake_dialects.base import Request, Scenario
from tests.fake_dialects.openai_chat import SCENARIOS
from tests.waiting import wait_until

__all__ = ["SCENARIOS", "FakeProvider", "Request", "Scenario"]


class FakeProvider:
    """The server, in a thread of its own. `requests` are all that came, `calls` the completions among them."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.requests: list[Request] = []
        self.open_connections = 0
        self.answering = 0
        self._set: dict[tuple[str | None, str | None], tuple[str | Scenario, dict[str, Any]]] = {}
        self._at: dict[str, Scenario] = {}
        self._after: tuple[int, str] | None = None
        self._going_on = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-provider", daemon=True)

    @property
    def url(self) -> str:
        """Return the base URL that a credential names."""
        return f"{self.root}/v1"

    @property
    def root(self) -> str:
        """Return where the server stands, for dialects that name the version in every path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """Return `host:port`, as an allow-list takes it."""
        return f"127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[Request]:
        """Return the completions asked for, in the order they came."""
        return [request for request in self.requests if is_call(request)]

    def answers(
        self,
        scenario: str | Scenario = "text",
        *,
        key: str | None = None,
        model: str | None = None,
        **changes: Any,
    ) -> None:
        """Answer from now on by a scenario, with changes; for one key, one model, both, or (without) all."""
        self._set[key, model] = scenario, changes

    def answers_after(self, count: int, scenario: str) -> None:
        """Answer by a scenario once that many more requests that ask a model have been answered well."""
        self._after = (len(self.requests) + count, scenario)

    def answers_at(self, path: str, scenario: Scenario) -> None:
        """Answer at this path by a scenario, whatever the key and the model."""
        self._at[path] = scenario

    def reset(self) -> None:
        """Forget requests and what `answers` and `answers_at` set."""
        self.requests.clear()
        self._set.clear()
        self._after = None
        self._at.clear()
        self._going_on = asyncio.Event()

    def go_on(self) -> None:
        """Give the rest of the answers that have halted; from now on until `reset` none halts."""
        self._loop.call_soon_threadsafe(self._going_on.set)

    def wait_until_quiet(self) -> None:
        """Wait until no answer is being given.

        Raises:
            AssertionError: one still is after LIMIT_S.
        """
        wait_until(lambda: self.answering == 0)

    def scenario_of(self, request: Request) -> Scenario:
        """Return how a request is answered."""
        if request.route in self._at:
            return self._at[request.route]
        if self._after is not None and len(self.requests) > self._after[0]:
            return dialect_of(request).SCENARIOS[self._after[1]]
        key, model = request.key, request.model
        scenarios = dialect_of(request).SCENARIOS
        named = next((name for name in (model.rpartition(":")[2], key.rpartition(":")[2]) if name in scenarios), "text")
        places = [(key, model), (key, None), (None, model)]
        places += [(None, None)] if named == "text" else []
        scenario, changes = next((self._set[place] for place in places if place in self._set), (named, {}))
        return replace(scenarios[scenario] if isinstance(scenario, str) else scenario, **changes)

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
        dialect = dialect_of(request)
        if scenario.status == 200 and scenario.body is None and (about := _about(request)) is not None:
            await self._send(writer, 200, {}, *about)
        elif scenario.refuses_stream_options and "stream_options" in (request.json or {}):
            await self._send(writer, 400, {}, b'{"error": "Unknown field: stream_options"}', "application/json")
        elif scenario.body is not None:
            await self._pause(scenario.first_delay_s)
            body = scenario.body.replace(b"KEY", request.key.encode())
            await self._send(
                writer, scenario.status, scenario.headers, body, scenario.content_type or "application/json"
            )
        elif (sound := fake_tasks.sound(request)) is not None:
            await self._sound(writer, scenario, *sound)
        elif request.streams and not scenario.ignores_stream:
            await self._stream(writer, request, scenario)
        else:
            await self._pause(scenario.first_delay_s)
            await self._halt(scenario, scenario.halts_after)
            task = fake_tasks.answer(request, usage=scenario.usage != "never")
            body, kind = task or (dialect.completion(request, scenario), "application/json")
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
        dialect = dialect_of(request)
        kind = scenario.content_type or dialect.MEDIA_TYPE
        head = {"content-type": kind, "transfer-encoding": "chunked", **scenario.headers}
        writer.write(_head(scenario.status, head))
        await self._pause(scenario.first_delay_s)
        for number, event in enumerate(dialect.content(request, scenario)):
            if number:
                await self._pause(scenario.delay_s)
            await self._halt(scenario, number)
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

    async def _halt(self, scenario: Scenario, place: int | None) -> None:
        """Wait to be told to go on, where the scenario halts at this place."""
        if place is None or place != scenario.halts_after:
            return
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._provider._going_on, self._gone)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        if self._gone.is_set():
            raise _GoneError

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._gone.wait()
        except TimeoutError:
            return
        raise _GoneError


def _about(request: Request) -> tuple[bytes, str] | None:
    """Return what answers a question about models, voices and keys, and its type; None for others."""
    if request.method == "GET" and (task := fake_tasks.answer(request, usage=True)) is not None:
        return task
    body = dialect_of(request).about(request)
    return (body, "application/json") if body is not None else None


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    fields = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    if headers.get("transfer-encoding") == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method=method, path=path, headers=headers, json=_json(body), body=body)


def _json(body: bytes) -> Any:
    """Return a body's JSON; None where it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None


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
