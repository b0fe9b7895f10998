"""What a workspace's calls used, added up: by hour, day or month, and by what tells calls apart."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from core.access import Permission, Viewer, require
from core.app import App
from core.entities import UsageBucket, UsageDimension, UsageInterval
from core.errors import InvalidInput
from core.ports.invocations import InvocationQuery
from core.ports.usage import UsageQuery

MAX_BUCKETS = 1000
_HOUR = timedelta(hours=1)
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)


async def usage(
    app: App,
    viewer: Viewer,
    workspace_id: UUID,
    *,
    since: datetime,
    until: datetime,
    interval: UsageInterval | None = None,
    group_by: Sequence[UsageDimension] = (),
    tag_name: str | None = None,
    calls: InvocationQuery,
    first: int,
) -> Sequence[UsageBucket]:
    """Return what ended calls admitted from `since` until before `until` used, by time, then by what they share.

    Exact to the moment while the records of calls are kept; where they may be gone, a begun hour counts in full.

    Raises:
        Forbidden: the viewer may not see usage, or not what they ask to have told apart or left out.
        InvalidInput: the time is empty, TAG comes without a tag's name or the other way round, or `first` is no size.
    """
    require(viewer, workspace_id, Permission.USAGE_READ)
    if calls.credential_id is not None or UsageDimension.CREDENTIAL in group_by:
        require(viewer, workspace_id, Permission.CREDENTIAL_READ)
    if since >= until:
        raise InvalidInput("`to` is later than `from`.", path=("to",))
    if UsageDimension.TAG in group_by and not tag_name:
        raise InvalidInput("To group by TAG, name the tag in `tagName`.", path=("tagName",))
    if tag_name is not None and UsageDimension.TAG not in group_by:
        raise InvalidInput("`tagName` goes with TAG in `groupBy`.", path=("tagName",))
    if not 1 <= first <= MAX_BUCKETS:
        raise InvalidInput(f"`first` is a number from 1 to {MAX_BUCKETS}.", path=("first",))
    since, until = max(since, calls.since or since, _FIRST), min(until, calls.until or until, _LAST)
    kept_since = app.clock.now() - timedelta(days=app.settings.retention_days)
    query = UsageQuery(
        since=_widened_down(since, kept_since),
        until=_widened_up(until, kept_since),
        interval=interval,
        by=tuple(dict.fromkeys(group_by)),
        tag=tag_name or "",
        calls=replace(calls, since=None, until=None),
        limit=first,
    )
    if query.since >= query.until:
        return ()
    async with app.storage.read() as tx:
        return await tx.usage.buckets(workspace_id, query)


def hour_of(moment: datetime) -> datetime:
    """Return the beginning of the hour that a moment in UTC is in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def _widened_down(since: datetime, kept_since: datetime) -> datetime:
    return hour_of(since) if hour_of(since) < kept_since else since


def _widened_up(until: datetime, kept_since: datetime) -> datetime:
    begun = hour_of(until)
    return begun + _HOUR if begun < until and begun < kept_since else until
