"""The use cases of a completion: begin one, read it, wait for its end, cancel it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from core.access import Permission, Viewer
from core.admission import admit, current
from core.app import App
from core.completion_owner import CompletionOwner
from core.configuration import Configuration
from core.entities import Invocation, InvocationStatus
from core.errors import Cancelled, InvalidInput, NotFound, ServerUnavailable
from core.journal import Written, written
from core.media import check_addresses
from core.model_types import ModelType
from core.model_types.llm import CompletionFailed, CompletionFinished, InterruptReason
from core.once import Once, begin_once, no_longer_kept, once_of
from core.plan import CompletionRequest, CompletionStep, plan
from core.recorder import KEPT_S, taken_over
from core.stream import EventStream, Reader
from core.tailer import DEAD_AFTER_S

CANCEL_CHANNEL = "modelyard:cancel"
CANCEL_AGAIN_S = 0.25
CANCEL_WAIT_S = 3.0
LOG_AGAIN_S = 0.1
LOG_WAIT_S = 15.0
BACK_WAIT_S = 3.0
"""How long after the return of Redis a log is waited for whose call has ended: its owner looks every second."""


async def rejoin(app: App, viewer: Viewer, invocation_id: UUID, after: int) -> Reader:
    """Return a reader of a completion that the viewer began, run by whatever process, until 10 minutes after its end.

    Where the log is not to be had for the moment, it is waited for. A process that stops sends the reader elsewhere.

    Raises:
        InvalidInput: no event has such a number.
        NotFound: the viewer has begun no such completion, or its events are not kept any more.
        ServerUnavailable: Redis is away.
    """
    if after < -1:
        raise InvalidInput("`after` is the number of an event: 0 or more.", path=("after",))
    if app.running.closing:
        reader = EventStream(invocation_id, UUID(int=0), viewer.principal, viewer.token_id).join(viewer.token_id, after)
        reader.interrupt(InterruptReason.SHUTDOWN)
        return reader
    waiting = _Patience(app)
    while (stream := await _stream(app, viewer, invocation_id)) is None:
        record = await _own_record(app, viewer, invocation_id)
        if record.status is not InvocationStatus.RUNNING:
            if await waiting.may_come_back(record):
                continue
            raise NotFound(
                "The events of this call are no longer there: they are kept for 10 minutes after its end.",
                path=("invocationId",),
            )
        if await waiting.is_over(record.owner):
            stream = EventStream(invocation_id, record.workspace_id, record.principal, record.token_id)
            stream.end(taken_over(invocation_id, 0), taken_over=True)
            break
    if stream.principal != viewer.principal or not viewer.can(stream.workspace_id, Permission.MODEL_INVOKE):
        raise _unknown()
    return stream.join(viewer.token_id, after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What the log has of a completion: what the model wrote, and the end that its owner gave it."""

    written: Written
    end: CompletionFinished | CompletionFailed | None


async def logged(app: App, invocation_id: UUID) -> Logged | None:
    """Return what the log says that became of a completion; None where it has neither a delta nor its owner's end.

    Raises:
        ServerUnavailable: Redis is away.
    """
    count, lines, end = 0, b"", None
    while entries := (await app.log.read({invocation_id: count}, 0)).get(invocation_id):
        for entry in entries:
            lines += entry.lines_from(count)
            count = entry.first + entry.count + (entry.end is not None)
            end = entry.end if not entry.is_taken else None
    found = written(lines)
    return Logged(written=found, end=end) if found.produced or end is not None else None


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

    One whose key stands for another already is not begun: its reader is of that one, from its beginning.

    Raises:
        Conflict: the key came with another input, or the events of what it stands for are no longer kept.
        ModelyardError: refused; nothing was recorded and nobody was called.
    """
    given = replace(request, workspace_id=None, idempotency_key=None)
    once = once_of(viewer, "completion", request.idempotency_key, given)

    async def planned(configuration: Configuration) -> tuple[UUID, list[CompletionStep]]:
        steps = plan(app.catalog, viewer, configuration, request, streaming=streaming)
        if any(step.quotas for step in steps if step.key != steps[0].key):
            # Own credentials may serve a fallback whose quotas are used up, which its hold would find out too late.
            steps = plan(app.catalog, viewer, await current(app, configuration), request, streaming=streaming)
        check_addresses(app.egress, request.chat)
        return configuration.workspace_id, steps

    async def begin(found: tuple[UUID, list[CompletionStep]]) -> Reader:
        return await app.running.finish(_begin(app, viewer, *found, request, once, streaming=streaming), Reader.close)

    return await begin_once(
        app, viewer, request.workspace_id, once, planned, begin, lambda repeated: _joined(app, viewer, repeated)
    )


async def _begin(
    app: App,
    viewer: Viewer,
    workspace_id: UUID,
    steps: Sequence[CompletionStep],
    request: CompletionRequest,
    once: Once | None,
    *,
    streaming: bool,
) -> Reader:
    """Admit a completion and run it here; return its first reader."""
    invocation, tries = await admit(
        app,
        viewer,
        workspace_id,
        steps,
        end_user=request.end_user,
        tags=request.tags,
        once=partial(once, workspace_id) if once is not None else None,
    )
    stream = EventStream(invocation.id, workspace_id, invocation.principal, viewer.token_id)
    is_paid = any(step.is_paid_by_output(has_budget=tries.purse.has_funds) for step in steps)
    app.recorder.track(stream, is_paid=streaming and is_paid)
    reader = stream.join(viewer.token_id)
    owner = CompletionOwner(app, invocation, stream, tries, streaming=streaming)
    owner.owned = app.running.start(stream, owner.run(), app.settings.grace_seconds)
    return reader


async def _joined(app: App, viewer: Viewer, invocation_id: UUID) -> Reader:
    """Return a reader of the completion that a key stands for, from its beginning."""
    try:
        return await rejoin(app, viewer, invocation_id, -1)
    except NotFound:
        raise no_longer_kept(invocation_id) from None


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
        return await _cancel_elsewhere(app, viewer, invocation_id)
    return await _cancellable(app, viewer, invocation_id)


def cancelled_by_request() -> Cancelled:
    """Return the reason that a cancelled completion ends with."""
    return Cancelled("The completion was cancelled by `cancelInvocation`.")


async def _cancel_elsewhere(app: App, viewer: Viewer, invocation_id: UUID) -> Invocation:
    """Tell the owner, again where it did not hear, and wait for its record of the end for a few seconds."""
    loop = asyncio.get_running_loop()
    until, tell_at = loop.time() + CANCEL_WAIT_S, 0.0
    while True:
        if loop.time() >= tell_at:
            await app.changes.publish(CANCEL_CHANNEL, invocation_id.bytes)
            tell_at = loop.time() + CANCEL_AGAIN_S
        await asyncio.sleep(CANCEL_AGAIN_S / 10)
        invocation = await _cancellable(app, viewer, invocation_id)
        if invocation.status is not InvocationStatus.RUNNING or loop.time() > until:
            return invocation


class _Patience:
    """Waits for a log that is not there: soon after the beginning, and when Redis has lost it, its owner writes it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + LOG_WAIT_S
        self._missed_since: float | None = None
        self._lost_since: float | None = None

    async def may_come_back(self, record: Invocation) -> bool:
        """Wait a little; tell whether the log of a call that has ended may still come back.

        A Redis that was started anew may have lost it, and its owner has it until it is written again.
        """
        app, now = self._app, self._loop.time()
        since = app.clock.now() - (record.ended_at or record.started_at)
        self._lost_since = self._lost_since or now
        if since.total_seconds() > KEPT_S or now - self._lost_since > BACK_WAIT_S:
            return False
        await asyncio.sleep(LOG_AGAIN_S)
        return True

    async def is_over(self, owner: UUID) -> bool:
        """Wait a little; tell whether the owner is dead, so that no log will come.

        Raises:
            ServerUnavailable: the owner lives, and the log did not come in time.
        """
        now = self._loop.time()
        if await self._app.tailer.is_alive(owner):
            self._missed_since = None
        elif self._missed_since is None:
            self._missed_since = now
        elif now - self._missed_since >= DEAD_AFTER_S:
            return True
        if now > self._until:
            raise ServerUnavailable(
                "The events of this call are not there yet; ask again in a moment.", retry_after=1.0
            )
        await asyncio.sleep(LOG_AGAIN_S)
        return False


async def _stream(app: App, viewer: Viewer, invocation_id: UUID) -> EventStream | None:
    """Return the completion's stream here, by its log if another process runs it; Redis may be away for a while."""
    until = asyncio.get_running_loop().time() + LOG_WAIT_S
    while True:
        try:
            return app.recorder.find(invocation_id) or await app.tailer.find(invocation_id, viewer.principal)
        except ServerUnavailable:
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(LOG_AGAIN_S)


async def _own_record(app: App, viewer: Viewer, invocation_id: UUID) -> Invocation:
    async with app.storage.read() as tx:
        found = await tx.invocations.get_many(list(viewer.memberships), [invocation_id])
    record = found.get(invocation_id)
    if record is None or record.principal != viewer.principal or record.model.type is not ModelType.LLM:
        raise _unknown()
    return record


def _unknown() -> NotFound:
    return NotFound("There is no Invocation of this id, or it is not one of yours.", path=("invocationId",))


async def _cancellable(app: App, viewer: Viewer, invocation_id: UUID) -> Invocation:
    async with app.storage.read() as tx:
        found = await tx.invocations.get_many(list(viewer.memberships), [invocation_id])
    invocation = found.get(invocation_id)
    if invocation is None or not (
        invocation.principal == viewer.principal or viewer.can(invocation.workspace_id, Permission.WORKSPACE_MANAGE)
    ):
        raise NotFound("There is no such invocation that you may cancel.", path=("id",))
    return invocation
