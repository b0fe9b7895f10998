"""Calls with a key: the first is made, its repeats are told what has become of that one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from core.access import Viewer
from core.admission import configuration_for, current
from core.app import App
from core.configuration import Configuration
from core.entities import Invocation, InvocationStatus
from core.errors import AlreadyAdmitted, Conflict, QuotaExceeded, ServerUnavailable
from core.ids import public_id
from core.ports.once import OnceKey, Repeated
from core.quotas import once_key
from core.recorder import TAKEN_OVER
from core.tailer import DEAD_AFTER_S, TELL_EVERY_S, Readers, encode_readers, readers_channel

ADMIT_TRIES = 4
LOOK_AGAIN_S = (0.05, 0.1, 0.2, 0.5)
_NO_ID = UUID(int=0)

P = TypeVar("P")
R = TypeVar("R")

Once = Callable[[UUID, UUID], OnceKey]
"""Gives the key of a call by its workspace and its id."""


def once_of(viewer: Viewer, operation: str, key: str | None, given: object) -> Once | None:
    """Return what makes a repeat of this input one; None without a key."""
    if key is None:
        return None
    return lambda workspace_id, result_id: once_key(viewer, workspace_id, operation, key, given, result_id)


async def begin_once(
    app: App,
    viewer: Viewer,
    workspace_id: UUID | None,
    once: Once | None,
    plan: Callable[[Configuration], Awaitable[P]],
    begin: Callable[[P], Awaitable[R]],
    join: Callable[[UUID], Awaitable[R]],
) -> R:
    """Plan a call and begin it, or join the one that its key stands for already.

    It is planned as if nothing of its quotas were used: the hold decides. Where there is not enough, what is left does.

    Raises:
        Conflict: the key came with another input.
        ModelyardError: refused; nothing was recorded and nobody was called.
    """
    for left in reversed(range(ADMIT_TRIES)):
        configuration = await configuration_for(app, viewer, workspace_id)
        if left < ADMIT_TRIES - 1:
            configuration = await current(app, configuration)
        key = once(configuration.workspace_id, _NO_ID) if once is not None else None
        if key is not None and (found := await _repeated(app, key)) is not None:
            return await join(_same(found, key))
        planned = await plan(configuration)
        try:
            return await begin(planned)
        except AlreadyAdmitted as twin:
            assert key is not None, "only a key stands for another call"
            return await join(_same(Repeated(input_hash=twin.input_hash, result_id=twin.repeats), key))
        except QuotaExceeded:  # none is left, or others were faster: what is left decides anew
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


async def ended(app: App, viewer: Viewer, invocation_id: UUID) -> Invocation:
    """Wait for the end of a call, whichever process runs it; return its record.

    Raises:
        Conflict: its record is gone.
        ServerUnavailable: its process has died, or this one is stopping.
    """
    here = app.running.find(invocation_id)
    if here is not None:
        await here.wait()
    record = await _record(app, viewer, invocation_id)
    following = _Following(app, record)
    while record.status is InvocationStatus.RUNNING:
        await following.look()
        record = await _record(app, viewer, invocation_id)
    return record


def no_longer_kept(invocation_id: UUID) -> Conflict:
    """Return the refusal of a repeat that comes too late to be answered."""
    name = public_id("Invocation", invocation_id)
    return Conflict(
        f"This `idempotencyKey` stands for the call {name}, whose answer is no longer kept: see its record, or choose "
        "a new key.",
        path=("idempotencyKey",),
    )


class _Following:
    """Waits for a call of another process: the owner is told so, who else would end it for want of readers."""

    def __init__(self, app: App, record: Invocation) -> None:
        self._app = app
        self._id = record.id
        self._owner = record.owner
        self._time = asyncio.get_running_loop().time
        self._looked = 0
        self._told_at: float | None = None
        self._missed_since: float | None = None

    async def look(self) -> None:
        """Wait a little.

        Raises:
            ServerUnavailable: the owner is dead, or this process is stopping.
        """
        if self._app.running.closing:
            raise ServerUnavailable("This server is stopping; ask again in a moment.")
        try:
            await self._tell()
            is_alive = await self._app.tailer.is_alive(self._owner)
        except ServerUnavailable:  # nobody can tell while Redis is away
            is_alive = True
        if is_alive:
            self._missed_since = None
        elif self._missed_since is None:
            self._missed_since = self._time()
        elif self._time() - self._missed_since > DEAD_AFTER_S:
            raise ServerUnavailable(TAKEN_OVER, retry_after=1.0)
        await asyncio.sleep(LOOK_AGAIN_S[min(self._looked, len(LOOK_AGAIN_S) - 1)])
        self._looked += 1

    async def _tell(self) -> None:
        if self._told_at is None or self._time() - self._told_at > TELL_EVERY_S:
            said = Readers(process=self._app.process_id, reading=(self._id,))
            await self._app.changes.publish(readers_channel(self._owner), encode_readers(said))
            self._told_at = self._time()


async def _repeated(app: App, key: OnceKey) -> Repeated | None:
    async with app.storage.read() as tx:
        return await tx.once.find(key.workspace_id, key.principal, key.operation, key.key)


def _same(found: Repeated, key: OnceKey) -> UUID:
    """Return what a key stands for, if it came with this input."""
    if found.input_hash != key.input_hash:
        raise Conflict("This `idempotencyKey` was used with another input: choose a new one.", path=("idempotencyKey",))
    return found.result_id


async def _record(app: App, viewer: Viewer, invocation_id: UUID) -> Invocation:
    async with app.storage.read() as tx:
        found = await tx.invocations.get_many(list(viewer.memberships), [invocation_id])
    if invocation_id not in found:
        raise no_longer_kept(invocation_id)
    return found[invocation_id]
