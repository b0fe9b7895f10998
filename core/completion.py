"""The use cases of a completion: begin one, read it, wait for its end, cancel it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.entities import Invocation, InvocationStatus
from core.errors import Cancelled, ModelyardError, NotFound, Problem, ServerUnavailable
from core.ids import uuid7
from core.model_types.llm import CompletionEvent, CompletionFailed, CompletionFinished
from core.owner import Owner
from core.plan import CompletionRequest, plan
from core.stream import EventStream, Reader

CANCEL_CHANNEL = "modelyard:cancel"


async def stream_completion(
    app: App, viewer: Viewer, request: CompletionRequest
) -> AsyncGenerator[Sequence[CompletionEvent], None]:
    """Yield the events of a new completion in batches; a refusal is one CompletionFailed without an invocation."""
    try:
        reader = await start(app, viewer, request, streaming=True)
    except ModelyardError as refusal:
        yield (CompletionFailed(invocation_id=None, sequence=0, error=Problem.of(refusal)),)
        return
    async with aclosing(reader.batches()) as batches:
        async for batch in batches:
            yield batch


async def complete(
    app: App, viewer: Viewer, request: CompletionRequest
) -> tuple[UUID, CompletionFinished | CompletionFailed]:
    """Return the invocation and the end of a completion that is not streamed. A refusal is raised."""
    reader = await start(app, viewer, request, streaming=False)
    try:
        return reader.stream.invocation_id, await reader.stream.finished()
    finally:
        reader.close()


async def start(app: App, viewer: Viewer, request: CompletionRequest, *, streaming: bool) -> Reader:
    """Admit a completion and give it to this process to run; return its first reader.

    Raises:
        ModelyardError: refused; nothing was recorded and nobody was called.
    """
    if app.running.closing:
        raise ServerUnavailable("This server is stopping; ask again in a moment.")
    workspace_id = workspace_of(viewer, request.workspace_id)
    require(viewer, workspace_id, Permission.MODEL_INVOKE)
    configuration = await app.configurations.get(workspace_id, viewer.memberships[workspace_id].version)
    steps = plan(app.catalog, viewer, configuration, request)
    first = steps[0]
    invocation = Invocation(
        id=uuid7(),
        workspace_id=workspace_id,
        model=first.key,
        provider_type=first.provider_type,
        credential_id=first.credential.id if first.credential is not None else None,
        credential_name=first.credential_name,
        token_id=viewer.token_id,
        account_id=viewer.account_id,
        owner=app.process_id,
        started_at=app.clock.now(),
        pricing=first.card.pricing,
        end_user=request.end_user,
        tags=request.tags,
    )
    await app.invocations.admit(invocation)
    stream = EventStream(invocation.id, workspace_id, invocation.principal, viewer.token_id)
    reader = stream.join(viewer.token_id)
    owner = Owner(app, invocation, stream, steps, streaming=streaming)
    owner.owned = app.running.start(stream, owner.run(), app.settings.grace_seconds)
    return reader


async def cancel(app: App, viewer: Viewer, invocation_id: UUID) -> Invocation:
    """Cancel a running completion for its principal, or for an owner or admin of its workspace; return its record.

    One that another process runs is cancelled there, within moments. One that has ended stays as it is.

    Raises:
        NotFound: there is no such invocation that the viewer may cancel.
    """
    invocation = await _cancellable(app, viewer, invocation_id)
    owned = app.running.find(invocation_id)
    if owned is not None:
        owned.cancel(cancelled_by_request())
        await owned.stream.finished()
    elif invocation.status is InvocationStatus.RUNNING:
        await app.changes.publish(CANCEL_CHANNEL, invocation_id.bytes)
    return await _cancellable(app, viewer, invocation_id)


def cancelled_by_request() -> Cancelled:
    """Return the reason that a cancelled completion ends with."""
    return Cancelled("The completion was cancelled by `cancelInvocation`.")


async def _cancellable(app: App, viewer: Viewer, invocation_id: UUID) -> Invocation:
    async with app.storage.read() as tx:
        found = await tx.invocations.get_many(list(viewer.memberships), [invocation_id])
    invocation = found.get(invocation_id)
    if invocation is None or not (
        invocation.principal == viewer.principal or viewer.can(invocation.workspace_id, Permission.WORKSPACE_MANAGE)
    ):
        raise NotFound("There is no such invocation that you may cancel.", path=("id",))
    return invocation
