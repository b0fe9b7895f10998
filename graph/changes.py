"""Changes as they happen: each is shown as the viewer may see it at that moment."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar
from uuid import UUID

from core.access import workspace_of
from core.changes import Change, ChangeKind
from core.live import News
from graph.context import Context
from graph.types import described

described(
    ChangeKind,
    "What happened to an object.",
    CURRENT="Nothing: this is how it is when following begins.",
    CREATED="It was made.",
    UPDATED="It is not as it was.",
    DELETED="It is gone.",
)

T = TypeVar("T")


def workspace_followed(context: Context, given: UUID | None, named: UUID | None = None) -> UUID:
    """Return the workspace that is meant: the one given, else the one that the followed object's id names.

    Raises:
        InvalidInput: there is neither, and the account belongs to none or to several.
    """
    return workspace_of(context.who, given if given is not None else named)


async def seen(
    context: Context,
    news: AsyncGenerator[News, None],
    show: Callable[[Context, Change], Awaitable[T | None]],
) -> AsyncGenerator[T, None]:
    """Yield each change as `show` makes it, read anew; one of which it makes None is left out."""
    async with aclosing(news):
        async for one in news:
            context.renew(one.viewer)
            event = await show(context, one.change)
            if event is not None:
                yield event
