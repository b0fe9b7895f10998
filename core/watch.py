"""What runs beside the completions of a process: cancellations from other processes, and access that has ended."""

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from core.access import Permission, Viewer
from core.app import App
from core.completion import CANCEL_CHANNEL, cancelled_by_request
from core.errors import Cancelled, ServerUnavailable
from core.live import check_follower
from core.model_types.llm import InterruptReason
from core.recorder import TAKEN_OVER
from core.tailer import decode_readers, readers_channel

log = logging.getLogger(__name__)

ACCESS_EVERY_S = 2.0
LISTEN_AGAIN_S = 1.0
FORGET_EVERY_S = 1.0
FORGET_AFTER_S = 5.0


def watch(app: App) -> None:
    """Start the watches; they last as long as `app.running`."""
    app.recorder.on_taken = lambda invocation_id: _taken(app, invocation_id)
    app.running.background(_hear(app, CANCEL_CHANNEL, _cancelled))
    app.running.background(_hear(app, readers_channel(app.process_id), _read_elsewhere))
    app.running.background(_elsewhere(app))
    app.running.background(_access(app))


async def check_access(app: App) -> None:
    """Send away readers and followers, and end calls, whose token stands for nobody any more or not there; one read."""
    running, followers = app.running.all(), list(app.running.followers)
    streams = [*(owned.stream for owned in running), *app.tailer.streams()]
    tokens = {owned.stream.token_id for owned in running}
    tokens |= {reader.token_id for stream in streams for reader in stream.readers}
    tokens |= {follower.token_id for follower in followers}
    if not tokens:
        return
    viewers = await app.identity.viewers(list(tokens))
    for follower in followers:
        check_follower(viewers[follower.token_id], follower)
    for stream in streams:
        for reader in list(stream.readers):
            if reader.token_id in viewers and not _may_still(viewers[reader.token_id], stream.workspace_id):
                reader.interrupt(InterruptReason.UNAUTHORIZED)
    for owned in running:
        if not _may_still(viewers.get(owned.stream.token_id), owned.stream.workspace_id):
            owned.cancel(Cancelled("The token that began this completion is no longer valid here."))


async def _access(app: App) -> None:
    while True:
        await asyncio.sleep(ACCESS_EVERY_S)
        try:
            await check_access(app)
        except Exception:
            log.warning("the access of running streams could not be checked", exc_info=True)


async def _hear(app: App, channel: str, take: Callable[[App, bytes], None]) -> None:
    while True:
        try:
            async with app.changes.listen(channel) as messages:
                async for message in messages:
                    take(app, message)
        except Exception:
            log.warning("%s is not heard for now", channel, exc_info=True)
        await asyncio.sleep(LISTEN_AGAIN_S)


def _cancelled(app: App, message: bytes) -> None:
    owned = app.running.find(UUID(bytes=message)) if len(message) == 16 else None
    if owned is not None:
        owned.cancel(cancelled_by_request())


def _read_elsewhere(app: App, message: bytes) -> None:
    said = decode_readers(message)
    for invocation_id in said.reading:
        if (owned := app.running.find(invocation_id)) is not None:
            owned.read_elsewhere(said.process)
    for invocation_id in said.left:
        if (owned := app.running.find(invocation_id)) is not None:
            owned.left_elsewhere(said.process)


async def _elsewhere(app: App) -> None:
    """Forget readers of processes that have not told of them for a while; they cannot while Redis is away."""
    time = asyncio.get_running_loop().time
    since = time()
    while True:
        await asyncio.sleep(FORGET_EVERY_S)
        if app.recorder.is_away:
            since = time()
            continue
        for owned in app.running.all():
            for process_id, told_at in list(owned.elsewhere.items()):
                if time() - max(told_at, since) > FORGET_AFTER_S:
                    owned.left_elsewhere(process_id)


def _taken(app: App, invocation_id: UUID) -> None:
    owned = app.running.find(invocation_id)
    if owned is not None:
        owned.cancel(ServerUnavailable(TAKEN_OVER))


def _may_still(viewer: Viewer | None, workspace_id: UUID) -> bool:
    return viewer is not None and viewer.can(workspace_id, Permission.MODEL_INVOKE)
