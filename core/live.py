"""Use cases of following: the changes of a workspace's objects as they happen, from every process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from core.access import Permission, Viewer, require
from core.app import App
from core.changes import Change, ChangeKind, Noun, channel_of, from_message
from core.configuration import Configuration
from core.errors import Forbidden, ServerUnavailable, Unauthenticated
from core.followers import Follower

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What is followed: all objects of a noun in a workspace, or the one of this key."""

    workspace_id: UUID
    noun: Noun
    permission: Permission
    key: str | None = None

    def covers(self, change: Change) -> bool:
        """Tell whether a change is one that is followed."""
        return change.noun is self.noun and (self.key is None or change.key == self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """A change, and what the one who hears of it may see now."""

    viewer: Viewer
    change: Change


def follow(app: App, viewer: Viewer, topic: Topic) -> AsyncGenerator[News, None]:
    """Return the changes as they happen. Of one object CURRENT comes first, and DELETED is the last.

    The permission is checked here, again for each change, and every few seconds between. The stream ends with
    Unauthenticated or Forbidden when it is gone, and with ServerUnavailable when changes may have been missed.

    Raises:
        NotFound: the workspace is not one of the viewer's.
        Forbidden: their role does not allow it.
        ServerUnavailable: this process is stopping.
    """
    require(viewer, topic.workspace_id, topic.permission)
    if app.running.closing:
        raise ServerUnavailable("This server is stopping; ask again in a moment.")
    return _follow(app, viewer, topic)


async def tell(app: App, change: Change) -> None:
    """Tell of a change that no transaction brought. ServerUnavailable when Redis is away."""
    await app.changes.publish(change.channel, change.to_message())


async def tell_of_pools(app: App, workspace_id: UUID, credential_id: UUID) -> None:
    """Tell that the pools stand differently in which a credential is a member, as itself or as what is active.

    Where Redis is away nobody is told.
    """
    configuration = await app.configurations.get(workspace_id)
    try:
        for change in changes_of_pools(configuration, credential_id):
            await tell(app, change)
    except ServerUnavailable as error:
        log.info("nobody is told how the pools stand: %s", error)


def changes_of_pools(configuration: Configuration, credential_id: UUID) -> list[Change]:
    """Return what is to be told where a credential stands differently: of every pool that it may be a member of."""
    return [
        Change(workspace_id=configuration.workspace_id, noun=Noun.POOL, key=str(pool.id))
        for pool in configuration.pools.values()
        if any(member.credential_id in {None, credential_id} for member in pool.members)
    ]


def check_follower(viewer: Viewer | None, follower: Follower) -> None:
    """Send a follower away whose token stands for nobody any more, or may not follow this any more."""
    error = _refusal(viewer, follower.workspace_id, follower.permission)
    if error is not None:
        follower.end(error)


async def _follow(app: App, viewer: Viewer, topic: Topic) -> AsyncGenerator[News, None]:
    follower = Follower(viewer.token_id, topic.workspace_id, topic.permission)
    with app.running.followers.with_(follower):
        async with app.changes.listen(channel_of(topic.workspace_id), complete=True) as messages:
            if topic.key is not None:
                current = Change(
                    workspace_id=topic.workspace_id, noun=topic.noun, key=topic.key, kind=ChangeKind.CURRENT
                )
                yield News(viewer=await _viewer(app, follower), change=current)
            versions: dict[str, int] = {}
            async with aclosing(_until_sent_away(messages, follower)) as heard:
                async for message in heard:
                    change = from_message(message)
                    if change is None or not topic.covers(change) or _is_late(change, versions):
                        continue
                    yield News(viewer=await _viewer(app, follower), change=change)
                    if topic.key is not None and change.kind is ChangeKind.DELETED:
                        return


def _is_late(change: Change, versions: dict[str, int]) -> bool:
    """Tell whether a later change of the object has been told already, by another process that was faster."""
    latest = versions.get(change.key, 0)
    versions[change.key] = max(latest, change.version)
    return 0 < change.version < latest


async def _until_sent_away(messages: AsyncIterator[bytes], follower: Follower) -> AsyncGenerator[bytes, None]:
    """Yield messages until the follower is sent away; then raise why."""
    while True:
        step = asyncio.ensure_future(anext(messages))
        try:
            await asyncio.wait((step, follower.gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not step.done():
                step.cancel()
        if follower.error is not None:
            raise follower.error
        yield step.result()


async def _viewer(app: App, follower: Follower) -> Viewer:
    """Return who the follower is now; raise why they may not follow any more."""
    viewer = (await app.identity.viewers([follower.token_id]))[follower.token_id]
    error = _refusal(viewer, follower.workspace_id, follower.permission)
    if viewer is None or error is not None:
        raise error or _unknown()
    return viewer


def _refusal(viewer: Viewer | None, workspace_id: UUID, permission: Permission) -> Unauthenticated | Forbidden | None:
    if viewer is None:
        return _unknown()
    if not viewer.can(workspace_id, permission):
        return Forbidden(f"Following this needs the permission {permission}, which your role no longer has here.")
    return None


def _unknown() -> Unauthenticated:
    return Unauthenticated("The token is no longer valid: it was revoked, has expired, or its account is gone.")
