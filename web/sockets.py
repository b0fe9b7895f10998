"""The GraphQL view over WebSocket: the protocol graphql-transport-ws, many operations on one connection."""

import asyncio
import logging
from collections import Counter
from typing import Any

import msgspec
from graphql import GraphQLError
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from core.app import App
from core.errors import ModelyardError, Unauthenticated
from core.secret import Secret
from graph.context import make_context
from graph.documents import Refused
from graph.execution import Engine, Write, error_list
from web.auth import secret_of, secret_of_payload, viewer_of
from web.endpoint import QUERY_SECONDS, Request, Unfit, decoded
from web.negotiation import is_foreign
from web.protocol import Push, push_of

log = logging.getLogger(__name__)

PROTOCOL = "graphql-transport-ws"
MAX_MESSAGE = 256 * 1024
MAX_OPERATIONS = 100
MAX_SOCKETS_PER_TOKEN = 5000
MAX_ID = 128
INIT_SECONDS = 5.0
BATCHES_A_TURN = 16
_json = msgspec.json.Encoder().encode


class Closed(Exception):
    """The connection ends with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Left(Exception):
    """The client is not there any more."""


class SocketEndpoint:
    """Accepts connections, each with operations of its own."""

    def __init__(self, app: App, engine: Engine) -> None:
        self.app = app
        self.engine = engine
        self.open: Counter[Secret | None] = Counter()
        self._connections: set[_Connection] = set()
        self._is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if (await receive())["type"] != "websocket.connect":
            return
        if is_foreign(headers, self.app.settings.allowed_origins):
            await send({"type": "websocket.close", "code": 1008})  # before the accept: HTTP 403
            return
        if PROTOCOL not in scope.get("subprotocols", ()):
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 4406, "reason": "Subprotocol not acceptable"})
            return
        await send({"type": "websocket.accept", "subprotocol": PROTOCOL})
        connection = _Connection(self, headers, send, push_of(scope))
        self._connections.add(connection)
        try:
            await connection.run(receive)
        except Closed as closed:
            await connection.send({"type": "websocket.close", "code": closed.code, "reason": closed.reason})
        finally:
            self._connections.discard(connection)
            await connection.end()

    @property
    def is_draining(self) -> bool:
        """Tell whether connections are closed as soon as nothing runs on them."""
        return self._is_draining

    def drain(self) -> None:
        """Close connections as soon as nothing runs on them; those without an operation now."""
        self._is_draining = True
        for connection in list(self._connections):
            connection.close_soon_if_idle()

    async def finished(self, seconds: float) -> None:
        """Wait until all operations have come to their end, for so long."""
        working = [task for connection in self._connections for task in connection.working()]
        if working:
            await asyncio.wait(working, timeout=seconds)


class _Connection:
    """One socket: who it is, and what runs on it."""

    def __init__(self, endpoint: SocketEndpoint, headers: Headers, send: Send, push: Push | None) -> None:
        self._endpoint = endpoint
        self._app = endpoint.app
        self._headers = headers
        self._send = send
        self._push = push
        self._secret: Secret | None = None
        self._is_acknowledged = False
        self._is_initialised = False
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, receive: Receive) -> None:
        """Handle messages until the client leaves."""
        late = asyncio.get_running_loop().call_later(INIT_SECONDS, self._is_late)
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                await self._handle(message)
        finally:
            late.cancel()

    async def end(self) -> None:
        """Cancel what runs and wait for its cleanup, even if this task is cancelled meanwhile."""
        if self._is_acknowledged:
            self._endpoint.open[self._secret] -= 1
            if self._endpoint.open[self._secret] <= 0:
                del self._endpoint.open[self._secret]
        tasks = {*self._operations.values(), *self._ending}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.shield(asyncio.gather(*tasks, return_exceptions=True))

    async def send(self, message: Message) -> None:
        """Send to a client that may have left."""
        try:
            await self._send(message)
        except (RuntimeError, OSError):
            return

    def working(self) -> "list[asyncio.Task[None]]":
        """Return what runs on it."""
        return list(self._working)

    def close_soon_if_idle(self) -> None:
        """Send the client elsewhere if nothing of theirs runs here; nobody waits for one who does not read."""
        if not self._working:
            closing = {"type": "websocket.close", "code": 1012, "reason": "This server is restarting"}
            self._keep(asyncio.ensure_future(self.send(closing)))

    def _is_late(self) -> None:
        if not self._is_initialised:
            closing = {"type": "websocket.close", "code": 4408, "reason": "Connection initialisation timeout"}
            self._keep(asyncio.ensure_future(self.send(closing)))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _handle(self, message: Message) -> None:
        text = message.get("text")
        if text is None:
            raise Closed(4400, "Messages are text frames")
        try:
            content = decoded(text)
        except Unfit:
            raise Closed(4400, "The message is not JSON") from None
        if not isinstance(content, dict) or not isinstance(content.get("type"), str):
            raise Closed(4400, "A message is an object with a type")
        match content["type"]:
            case "connection_init":
                await self._initialise(content)
            case "ping":
                await self._reply({"type": "pong", **({"payload": content["payload"]} if "payload" in content else {})})
            case "pong":
                pass
            case "subscribe":
                self._subscribe(content)
            case "complete":
                self._complete(content)
            case _:
                raise Closed(4400, "Unknown type of message")

    async def _initialise(self, content: dict[str, Any]) -> None:
        if self._is_initialised:
            raise Closed(4429, "Too many initialisation requests")
        self._is_initialised = True
        payload = content.get("payload")
        if payload is not None and not isinstance(payload, dict):
            raise Closed(4400, "The payload of connection_init is an object")
        try:
            self._secret = secret_of_payload(payload) or secret_of(self._headers)
            await viewer_of(self._app, self._secret)
        except Unauthenticated as error:
            raise Closed(4403, error.message[:120]) from error
        except ModelyardError as error:
            raise Closed(1013, error.message[:120]) from error
        if self._endpoint.open[self._secret] >= MAX_SOCKETS_PER_TOKEN:
            raise Closed(1013, "Too many connections of this token, or without one")
        self._endpoint.open[self._secret] += 1
        self._is_acknowledged = True
        await self._reply({"type": "connection_ack"})

    def _subscribe(self, content: dict[str, Any]) -> None:
        if not self._is_acknowledged:
            raise Closed(4401, "Unauthorized")
        operation_id = content.get("id")
        if not isinstance(operation_id, str) or not 0 < len(operation_id) <= MAX_ID:
            raise Closed(4400, "A subscribe message needs an id of 1 to 128 characters")
        try:
            request = Request.of(content.get("payload"))
        except Unfit as unfit:
            raise Closed(4400, unfit.message) from None
        if operation_id in self._operations:
            raise Closed(4409, f"Subscriber for {operation_id[:80]} already exists")
        if len(self._operations) >= MAX_OPERATIONS:
            error = GraphQLError(
                f"This connection runs {MAX_OPERATIONS} operations already.", extensions={"code": "RATE_LIMITED"}
            )
            self._keep(asyncio.ensure_future(self._refuse(operation_id, Refused(error))))
            return
        task = asyncio.ensure_future(self._operate(operation_id, request))
        self._operations[operation_id] = task
        self._working.add(task)
        task.add_done_callback(lambda _: self._done(operation_id, task))

    def _complete(self, content: dict[str, Any]) -> None:
        operation_id = content.get("id")
        if not isinstance(operation_id, str):
            raise Closed(4400, "A complete message needs an id")
        task = self._operations.pop(operation_id, None)
        if task is not None:
            self._keep(task)
            task.cancel()

    def _done(self, operation_id: str, task: "asyncio.Task[None]") -> None:
        self._working.discard(task)
        if self._operations.get(operation_id) is task:
            del self._operations[operation_id]
        if self._endpoint.is_draining:
            self.close_soon_if_idle()

    async def _operate(self, operation_id: str, request: Request) -> None:
        try:
            await self._execute(operation_id, request)
        except Refused as refused:
            await self._refuse(operation_id, refused)
        except TimeoutError:
            error = GraphQLError("The operation took too long and was stopped.", extensions={"code": "TIMEOUT"})
            await self._refuse(operation_id, Refused(error))
        except _Left:
            log.debug("the client left in the middle of an operation")
        except Exception as error:
            fault = GraphQLError("An operation failed.", original_error=error)
            await self._refuse(operation_id, Refused(fault))

    async def _execute(self, operation_id: str, request: Request) -> None:
        app, engine = self._app, self._endpoint.engine
        try:
            viewer = await viewer_of(app, self._secret)
        except ModelyardError as error:
            raise Refused(GraphQLError(error.message, original_error=error)) from error
        context = make_context(app, viewer)
        before = '{"id":' + _json(operation_id).decode() + ',"type":"next","payload":'
        try:
            prepared = engine.prepare(request.query, request.operation_name, context)
            seconds = app.settings.call_seconds + 30 if prepared.is_mutation else QUERY_SECONDS
            payloads = await engine.stream(
                prepared, request.variables, context, seconds, self._pushing(before.encode())
            )
            try:
                turns = 0
                async for batch in payloads:
                    await self._send_all([f"{before}{payload.decode()}}}" for payload in batch])
                    # A source that never waits would leave no turn to the other operations.
                    turns += 1
                    if turns % BATCHES_A_TURN == 0:
                        await asyncio.sleep(0)
            finally:
                await asyncio.shield(asyncio.ensure_future(payloads.aclose()))
        finally:
            await context.aclose()
        self._operations.pop(operation_id, None)
        await self._reply({"id": operation_id, "type": "complete"})

    def _pushing(self, before: bytes) -> Write | None:
        """Return how payloads of an operation are sent at once; None where the server cannot."""
        push = self._push
        if push is None:
            return None
        return lambda payloads: push([b"%b%b}" % (before, payload) for payload in payloads])

    async def _send_all(self, texts: list[str]) -> None:
        try:
            for text in texts:
                await self._send({"type": "websocket.send", "text": text})
        except (RuntimeError, OSError) as error:
            raise _Left from error

    async def _refuse(self, operation_id: str, refused: Refused) -> None:
        self._operations.pop(operation_id, None)
        start = b'{"id":' + _json(operation_id) + b',"type":"error","payload":'
        await self.send({"type": "websocket.send", "text": (start + error_list(refused) + b"}").decode()})

    async def _reply(self, message: dict[str, Any]) -> None:
        await self.send({"type": "websocket.send", "text": _json(message).decode()})
