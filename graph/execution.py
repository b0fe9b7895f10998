"""Executes operations: a query or mutation to one payload, a subscription to a stream of encoded payloads."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
import strawberry
from graphql import ExecutionResult, GraphQLError, execute
from graphql.execution import (
    Executor,
    create_source_event_stream,
    execute_subscription_event,
    map_source_to_response_event,
)

from core.errors import Unauthenticated
from core.model_types.llm import DELTAS
from graph.batches import Batches, EventPayloads
from graph.compiled import Compiled, compile_selection
from graph.completion_events import EVENT_STRUCTS
from graph.context import Context
from graph.documents import Documents, Prepared, Refused
from graph.masking import formatted
from graph.planned import planned

_encode = msgspec.json.Encoder(enc_hook=str).encode

Write = Callable[[Sequence[bytes]], bool]
"""Writes payloads at once, or takes none of them."""


class Engine:
    """A schema with its documents, ready to execute."""

    def __init__(self, schema: strawberry.Schema) -> None:
        self.schema = schema._schema
        self._executor: type[Executor[Any]] = planned(schema.execution_context_class)
        self.documents = Documents(self.schema)

    def prepare(self, query: str, operation_name: str | None, context: Context) -> Prepared:
        """Return the operation to execute.

        Raises:
            Refused: it never reaches a resolver.
        """
        prepared = self.documents.prepare(query, operation_name)
        if prepared.checked.introspects and context.viewer is None:
            cause = Unauthenticated("Reading the schema needs a token.")
            raise Refused(GraphQLError(cause.message, original_error=cause))
        return prepared

    async def execute(
        self, prepared: Prepared, variables: Mapping[str, Any] | None, context: Context, seconds: float
    ) -> bytes:
        """Return the encoded payload of a query or mutation.

        Raises:
            Refused: the variables do not fit, or ask for too much; no resolver ran.
        """
        self.documents.check_size(prepared, variables)
        async with asyncio.timeout(seconds):
            result = execute(
                self.schema,
                prepared.document,
                context_value=context,
                variable_values=dict(variables or {}),
                operation_name=prepared.name,
                executor_class=self._executor,
                hide_suggestions=True,
            )
            if not isinstance(result, ExecutionResult):
                result = await result
        if result.data is None and result.errors and all(error.path is None for error in result.errors):
            raise Refused(*result.errors)
        return encoded(result)

    async def stream(
        self,
        prepared: Prepared,
        variables: Mapping[str, Any] | None,
        context: Context,
        seconds: float,
        write: Write | None = None,
    ) -> AsyncGenerator[Sequence[bytes], None]:
        """Return any operation as a stream of encoded payloads; a query or mutation is one payload.

        What `write` takes is not in the stream: it is given payloads of a completion's events in the turn in which they
        come, while nothing of the stream waits to be read.

        Raises:
            Refused: nothing was begun.
        """
        if prepared.is_subscription:
            return await self.subscribe(prepared, variables, context, write)
        return single(await self.execute(prepared, variables, context, seconds))

    async def subscribe(
        self, prepared: Prepared, variables: Mapping[str, Any] | None, context: Context, write: Write | None = None
    ) -> AsyncGenerator[Sequence[bytes], None]:
        """Return the stream of encoded payloads, in batches of what has come together; `write` is as in `stream`.

        Raises:
            Refused: the stream could not be begun.
        """
        self.documents.check_size(prepared, variables)
        executor = self._executor.build(
            self.schema,
            prepared.document,
            context_value=context,
            raw_variable_values=dict(variables or {}),
            operation_name=prepared.name,
            hide_suggestions=True,
        )
        if not isinstance(executor, Executor):
            raise Refused(*executor)
        source = create_source_event_stream(executor)
        if not isinstance(source, ExecutionResult | AsyncIterable):
            source = await source
        if isinstance(source, ExecutionResult):
            raise Refused(*(source.errors or ()))
        if isinstance(source, Batches):
            compiled = compile_selection(self.schema, prepared, variables or {}, EVENT_STRUCTS)
            return _ended_by_faults(self._compiled(compiled, source, executor, write))
        return _ended_by_faults(_payloads(map_source_to_response_event(executor, source)))

    async def _compiled(
        self, compiled: Compiled, source: Batches, executor: Executor[Any], write: Write | None
    ) -> AsyncGenerator[Sequence[bytes], None]:
        encoders = compiled.encoders
        async with aclosing(source.batches) as batches:
            async for batch in batches:
                reader = source.tap.reader
                if write is not None and reader is not None and reader.feed is None:
                    reader.feed = partial(_feed, encoders, write)
                payloads = EventPayloads(batch)
                for event in batch:
                    payloads.append(_compiled_payload(encoders, event) or await self._executed(executor, event))
                yield payloads

    async def _executed(self, executor: Executor[Any], event: Any) -> bytes:
        """Return the payload of one event as graphql-core makes it."""
        result = execute_subscription_event(executor.build_per_event_executor(event))
        return encoded(result if isinstance(result, ExecutionResult) else await result)


def _compiled_payload(encoders: Mapping[type, Any], event: Any) -> bytes | None:
    """Return the payload of an event as its compiled selection makes it; None leaves it to graphql-core."""
    encode = encoders.get(type(event))
    try:
        return encode(event) if encode is not None else None
    except Exception:  # whatever it is, graphql-core says what a client sees of it
        return None


def _feed(encoders: Mapping[type, Any], write: Write, batch: Sequence[Any]) -> bool:
    """Write the deltas of a batch at once; tell whether it was possible."""
    payloads = []
    for event in batch:
        payload = _compiled_payload(encoders, event) if isinstance(event, DELTAS) else None
        if payload is None:
            return False
        payloads.append(payload)
    return write(payloads)


async def single(payload: bytes) -> AsyncGenerator[Sequence[bytes], None]:
    """Yield one payload."""
    yield (payload,)


async def _payloads(stream: AsyncIterator[ExecutionResult]) -> AsyncGenerator[Sequence[bytes], None]:
    try:
        async for result in stream:
            yield (encoded(result),)
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


async def _ended_by_faults(payloads: AsyncGenerator[Sequence[bytes], None]) -> AsyncGenerator[Sequence[bytes], None]:
    """Yield what comes; a fault of the source is a last payload, masked like any other, whatever the transport."""
    try:
        async with aclosing(payloads):
            async for batch in payloads:
                yield batch
    except Exception as fault:
        yield (refusal(Refused(GraphQLError("The stream broke.", original_error=fault))),)


def encoded(result: ExecutionResult) -> bytes:
    """Return a result as JSON."""
    payload: dict[str, Any] = {"data": result.data}
    if result.errors:
        payload["errors"] = [formatted(error) for error in result.errors]
    return _encode(payload)


def refusal(refused: Refused) -> bytes:
    """Return the payload of a request that reached no resolver: errors and no data."""
    return b'{"errors":' + error_list(refused) + b"}"


def error_list(refused: Refused) -> bytes:
    """Return the errors of a request that reached no resolver, as a JSON array."""
    return _encode([formatted(error) for error in refused.errors])
