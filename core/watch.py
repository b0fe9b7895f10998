"""What runs beside the completions of a process: cancellations from other processes, and access that has ended."""

import asyncio
import logging
from uuid import UUID

from core.access import Permission, Viewer
from core.app import App
from core.completion import CANCEL_CHANNEL, cancelled_by_request
from core.errors import Cancelled
from core.live import check_follower
from core.model_types.llm import InterruptReason

log = logging.getLogger(__name__)

ACCESS_EVERY_S = 2.0
LISTEN_AGAIN_S = 1.0


def watch(app: App) -> None:
    """Start the watches; they last as long as `app.running`."""
    app.running.background(_cancellations(app))
    app.running.background(_access(app))


async def check_access(app: App) -> None:
    """Send away readers and followers, and end calls, whose token stands for nobody any more or not there; one read."""
    running, followers = app.running.all(), list(app.running.followers)
    tokens = {owned.stream.token_id for owned in running}
    tokens |= {reader.token_id for owned in running for reader in owned.stream.readers}
    tokens |= {follower.token_id for follower in followers}
    if not tokens:
        return
    viewers = await app.identity.viewers(list(tokens))
    for follower in followers:
        check_follower(viewers[follower.token_id], follower)
    for owned in running:
        stream = owned.stream
        for reader in list(stream.readers):
            if reader.token_id in viewers and not _may_still(viewers[reader.token_id], stream.workspace_id):
                reader.interrupt(InterruptReason.UNAUTHORIZED)
        if not _may_still(viewers.get(stream.token_id), stream.workspace_id):
            owned.cancel(Cancelled("The token that began this completion is no longer valid here."))


async def _access(app: App) -> None:
    while True:
        await asyncio.sleep(ACCESS_EVERY_S)
        try:
            await check_access(app)
        except Exception:
            log.warning("the access of running streams could not be checked", exc_info=True)


async def _cancellations(app: App) -> None:
    while True:
        try:
            async with app.changes.listen(CANCEL_CHANNEL) as messages:
                async for message in messages:
                    owned = app.running.find(UUID(bytes=message)) if len(message) == 16 else None
                    if owned is not None:
                        owned.cancel(cancelled_by_request())
        except Exception:
            log.warning("cancellations from other processes are not heard for now", exc_info=True)
        await asyncio.sleep(LISTEN_AGAIN_S)


def _may_still(viewer: Viewer | None, workspace_id: UUID) -> bool:
    return viewer is not None and viewer.can(workspace_id, Permission.MODEL_INVOKE)
