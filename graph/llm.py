"""Completions: the operations that make one, and those that join one."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, cast
from uuid import UUID

import msgspec
import strawberry

from core.access import Permission, workspace_of
from core.completion import complete, rejoin, start
from core.count_tokens import count_tokens
from core.errors import InvalidInput, ModelyardError, Problem, Unauthenticated
from core.model_types import llm
from core.model_types.llm import FinishReason
from graph import ids, links
from graph.batches import Batches, Tap
from graph.completion_events import AssistantMessage, CompletionEvent, read_mark
from graph.completion_input import CompletionInput
from graph.context import Context, Info
from graph.links import InvocationLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.scalars import BigInt
from graph.types import argument, attribute, object_type, resolved, streamed
from graph.values import unnamed


@object_type
class CompletePayload:
    """What came of a completion that is not streamed."""

    message: AssistantMessage | None = attribute("The answer; null when it failed.", default=None)
    finish_reason: FinishReason | None = attribute("Why the model stopped; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)
    invocation_id: strawberry.Private[UUID | None] = None

    @resolved
    async def invocation(self, info: Info) -> InvocationLink | None:
        """The record of the call; null where it was refused before it was admitted."""
        return await links.invocation(info.context, self.invocation_id) if self.invocation_id is not None else None


@object_type
class TokenCount:
    """How many tokens a completion's input has, counted here."""

    input_tokens: BigInt | None = attribute("About how many; null when it failed.", default=None)
    upper_bound: BigInt | None = attribute(
        "How many at most, by any model's vocabulary; null where media make it unknown, and when it failed.",
        default=None,
    )
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Query")
class CompletionQuery:
    """What can be asked of a completion before it is made."""

    @resolved
    async def count_tokens(self, info: Info, input: Annotated[CompletionInput, INPUT]) -> TokenCount:
        """Estimates the tokens of a completion's input, for the model that would serve it; takes no hold, calls nobody.

        Needs MODEL_INVOKE.
        """
        context = info.context
        try:
            count = await count_tokens(context.app, context.who, input.request())
        except Unauthenticated:
            raise
        except ModelyardError as error:
            return TokenCount(errors=[UserError.of(error)])
        return TokenCount(input_tokens=count.input_tokens, upper_bound=count.upper_bound, errors=[])


@strawberry.type(name="Mutation")
class CompletionMutations:
    """Completions that are not streamed."""

    @mutation(CompletePayload)
    async def complete(self, info: Info, input: Annotated[CompletionInput, INPUT]) -> CompletePayload:
        """Makes a completion and answers when it has ended. A document has at most one such field.

        Needs MODEL_INVOKE.
        """
        context = info.context
        invocation_id, end = await complete(context.app, context.who, input.request())
        if isinstance(end, llm.CompletionFailed):
            return CompletePayload(invocation_id=invocation_id, errors=[UserError.of(end.error)])
        return CompletePayload(
            message=AssistantMessage.of(end.message),
            finish_reason=end.finish_reason,
            invocation_id=invocation_id,
            errors=[],
        )


async def event_source(
    context: Context, given: CompletionInput, tap: Tap
) -> AsyncGenerator[Sequence[llm.CompletionEvent], None]:
    """Yield the events of a new completion in batches, as this viewer may see them.

    A refusal, of the input too, is one CompletionFailed without an invocation. A client that has lost the stream of one
    is given what follows there, and no new one is begun.
    """
    viewer = context.who
    if context.last_event_id is not None:
        async with aclosing(rejoined_source(context, None, -1, tap)) as batches:
            async for batch in batches:
                yield batch
        return
    try:
        request = given.request()
        named = viewer.can(workspace_of(viewer, request.workspace_id), Permission.CREDENTIAL_READ)
        reader = tap.reader = await start(context.app, viewer, request, streaming=True)
    except ModelyardError as refusal:
        yield (llm.CompletionFailed(invocation_id=None, sequence=0, error=Problem.of(refusal)),)
        return
    async with aclosing(reader.batches()) as batches:
        async for batch in batches:
            yield batch if named else [_unnamed(event) for event in batch]


async def rejoined_source(
    context: Context, given: str | None, after: int, tap: Tap
) -> AsyncGenerator[Sequence[llm.CompletionEvent], None]:
    """Yield the events of a completion that follow the one numbered `after`, in batches, as this viewer may see them.

    How far the client came in a stream that it lost goes before `given` and `after`. A refusal is one CompletionFailed
    without an invocation.
    """
    viewer = context.who
    try:
        if context.last_event_id is not None:
            marked, after = read_mark(context.last_event_id)
            if given not in {None, marked}:
                raise InvalidInput("`Last-Event-ID` is of another completion.", path=("invocationId",))
            given = marked
        invocation_id = ids.given_uuid(given or "", "Invocation", ("invocationId",))
        reader = tap.reader = await rejoin(context.app, viewer, invocation_id, after)
    except ModelyardError as refusal:
        yield (llm.CompletionFailed(invocation_id=None, sequence=max(after + 1, 0), error=Problem.of(refusal)),)
        return
    named = viewer.can(reader.stream.workspace_id, Permission.CREDENTIAL_READ)
    async with aclosing(reader.batches()) as batches:
        async for batch in batches:
            yield batch if named else [_unnamed(event) for event in batch]


def _unnamed(event: llm.CompletionEvent) -> llm.CompletionEvent:
    """Return an event without the names of credentials."""
    if isinstance(event, llm.CompletionRerouted):
        return msgspec.structs.replace(event, credential_name=None, failed=unnamed(event.failed))
    if isinstance(event, llm.CompletionStarted):
        return msgspec.structs.replace(event, credential_name=None)
    return event


@strawberry.type(name="Subscription")
class CompletionSubscriptions:
    """Completions as they are written."""

    @streamed
    async def completion(
        self,
        info: Info,
        input: Annotated[CompletionInput, argument("What is asked of the model.")],
    ) -> AsyncGenerator[CompletionEvent, None]:
        """Streams a completion: text, reasoning and tool calls as they come, then one event that ends it.

        That is CompletionFinished or CompletionFailed. Leaving is not cancelling: the call goes on for a while, and
        `cancelInvocation` ends it at once. A document has at most one such field. Needs MODEL_INVOKE.
        """
        tap = Tap()
        return cast("AsyncGenerator[CompletionEvent, None]", Batches(event_source(info.context, input, tap), tap))

    @streamed
    async def completion_events(
        self,
        info: Info,
        invocation_id: Annotated[strawberry.ID, argument("The invocation's id, which all its events carry.")],
        after: Annotated[
            int | None, argument("The number of the last event that you have; left out, from the first.")
        ] = None,
    ) -> AsyncGenerator[CompletionEvent, None]:
        """Rejoins a completion of your own, wherever it runs: what follows an event, without loss or repeat.

        Until 10 minutes after its end. Needs MODEL_INVOKE.
        """
        tap = Tap()
        source = rejoined_source(info.context, invocation_id, -1 if after is None else after, tap)
        return cast("AsyncGenerator[CompletionEvent, None]", Batches(source, tap))
