"""The calls that this process owns: their tasks, their grace, their end at shutdown; and who follows changes."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from uuid import UUID

from core.entities import Invocation
from core.errors import Cancelled, ModelyardError, ServerUnavailable
from core.followers import Followers
from core.stream import Reader

T = TypeVar("T")


class Followed(Protocol):
    """What its owner fills and others follow: whose it is, who reads it, and when it has ended."""

    invocation_id: UUID
    workspace_id: UUID
    token_id: UUID
    on_joined: Callable[[], None] | None
    on_abandoned: Callable[[], None] | None

    @property
    def ended(self) -> bool:
        """Tell whether its end is there."""
        ...

    @property
    def readers(self) -> Collection[Reader]:
        """Return those who may lose the right to read while it runs."""
        ...

    async def finished(self) -> object:
        """Wait for the end."""
        ...


class Unread(ABC):
    """What nobody may read along: whose it is, and when it has ended."""

    readers: Sequence[Reader] = ()

    def __init__(self, invocation: Invocation) -> None:
        self.invocation_id = invocation.id
        self.workspace_id = invocation.workspace_id
        self.token_id = invocation.token_id
        self.on_joined: Callable[[], None] | None = None
        self.on_abandoned: Callable[[], None] | None = None

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Tell whether the end is there."""


@dataclass(slots=True, kw_only=True)
class Owned:
    """A call of this process. `reason` is set before its task is cancelled, and says why.

    `elsewhere` are the other processes in which somebody reads it, with when they last said so. `is_kept` tells whether
    it goes on without readers for now. `waiting` are those who wait for its end alone.
    """

    stream: Followed
    task: asyncio.Task[None]
    grace_seconds: float
    is_kept: Callable[[], bool]
    reason: ModelyardError | None = None
    timer: asyncio.TimerHandle | None = None
    settling: bool = False
    elsewhere: dict[UUID, float] = field(default_factory=dict)
    waiting: int = 0

    def cancel(self, reason: ModelyardError) -> None:
        """End the completion at the provider; its last event carries `reason`."""
        if self.reason is None and not self.settling and not self.task.done():
            self.reason = reason
            # Its first step comes before: a task that is cancelled without one never begins, and never settles.
            self.task.get_loop().call_soon(self._interrupt)

    def abandoned(self) -> None:
        """Cancel after the grace time, unless somebody joins before; not while somebody reads in another process."""
        if self.waiting or self.elsewhere or self.is_kept() or self.timer is not None:
            return
        reason = Cancelled("Every reader has left, and the time for coming back is over.")
        if self.grace_seconds <= 0:
            self.cancel(reason)
        else:
            self.timer = asyncio.get_running_loop().call_later(self.grace_seconds, self.cancel, reason)

    def joined(self) -> None:
        """Keep the completion: somebody reads it."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def read_elsewhere(self, process_id: UUID) -> None:
        """Take note that another process has readers of it."""
        self.elsewhere[process_id] = asyncio.get_running_loop().time()
        self.joined()

    def left_elsewhere(self, process_id: UUID) -> None:
        """Take note that another process has no readers of it any more."""
        if self.elsewhere.pop(process_id, None) is not None:
            self._left()

    async def wait(self) -> None:
        """Wait for the end, which keeps the call going meanwhile."""
        self.waiting += 1
        self.joined()
        try:
            await self.stream.finished()
        finally:
            self.waiting -= 1
            self._left()

    def _left(self) -> None:
        if not self.stream.readers and not self.stream.ended:
            self.abandoned()

    def _interrupt(self) -> None:
        if not self.settling:
            self.task.cancel()


class Running:
    """What runs in this process. `open` owns the tasks: leaving it ends and awaits them all.

    `closing`: nothing more is admitted. `closed`: what still ran has been told to end.
    """

    def __init__(self) -> None:
        self._owned: dict[UUID, Owned] = {}
        self._group: asyncio.TaskGroup | None = None
        self._background: set[asyncio.Task[None]] = set()
        self.closing = False
        self._closed = asyncio.Event()
        self.followers = Followers()

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Running"]:
        """Run until the block ends; then end what still runs and wait for its settlement."""
        async with asyncio.TaskGroup() as self._group:
            try:
                yield self
            finally:
                self.close()

    def close(self) -> None:
        """Admit nothing more, and end what runs with ServerUnavailable."""
        self.closing = True
        self._closed.set()
        for owned in list(self._owned.values()):
            owned.cancel(_stopping())
        self.followers.end(_stopping())
        for task in self._background:
            task.cancel()

    @property
    def closed(self) -> bool:
        """Tell whether what still ran has been told to end."""
        return self._closed.is_set()

    def start(self, stream: Followed, work: Coroutine[None, None, None], grace_seconds: float) -> Owned:
        """Run `work` as the owner of `stream`. It must not raise."""
        assert self._group is not None, "Running is not open"
        task = self._group.create_task(work)
        owned = Owned(stream=stream, task=task, grace_seconds=grace_seconds, is_kept=lambda: self.closing)
        stream.on_abandoned, stream.on_joined = owned.abandoned, owned.joined
        self._owned[stream.invocation_id] = owned
        task.add_done_callback(lambda _: self._forget(owned))
        if self.closed:
            owned.cancel(_stopping())
        return owned

    async def finish(self, work: Coroutine[None, None, T], left: Callable[[T], None]) -> T:
        """Return what `work` returns. If whoever waits is cancelled, it goes on to its end and `left` is given that."""
        group = self._group
        assert group is not None, "Running is not open"
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        group.create_task(_into(outcome, work))
        try:
            return await asyncio.shield(outcome)
        except asyncio.CancelledError:
            outcome.add_done_callback(lambda done: left(done.result()) if _has_result(done) else None)
            raise

    def see_through(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` to its end, for which a stop waits: it looks at `closed`. It must not raise."""
        group = self._group
        assert group is not None, "Running is not open"
        group.create_task(work)

    async def rest(self, seconds: float) -> None:
        """Wait so long, but not once what runs has been told to end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def background(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` beside the completions until the process stops. It must not raise."""
        assert self._group is not None, "Running is not open"
        task = self._group.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def find(self, invocation_id: UUID) -> Owned | None:
        """Return the completion if this process runs it."""
        return self._owned.get(invocation_id)

    def all(self) -> list[Owned]:
        """Return every completion that runs now."""
        return list(self._owned.values())

    def _forget(self, owned: Owned) -> None:
        owned.joined()
        self._owned.pop(owned.stream.invocation_id, None)


async def _into(outcome: asyncio.Future[T], work: Coroutine[None, None, T]) -> None:
    """Put what comes of some work into a future."""
    try:
        outcome.set_result(await work)
    except asyncio.CancelledError:
        outcome.cancel()
        raise
    except Exception as error:
        outcome.set_exception(error)


def _has_result(outcome: asyncio.Future[T]) -> bool:
    return not outcome.cancelled() and outcome.exception() is None


def _stopping() -> ServerUnavailable:
    return ServerUnavailable("This server is stopping; ask again in a moment.")
