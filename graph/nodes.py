"""Anything by its id, with the viewer's own permissions."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, cast
from uuid import UUID

import strawberry

from core.access import Permission
from core.configuration import Configuration
from core.errors import InvalidInput, NotFound
from core.resolve import find_model
from graph import ids, links
from graph.context import Context, Info
from graph.permissions import check_node, exists_for
from graph.types import Node, argument, resolved

MAX_IDS = 100

Parts = tuple[str, ...]
Find = Callable[[Context, Parts], Awaitable[Node | None]]


async def find_node(context: Context, text: str) -> Node | None:
    """Return what an id names; None where it is unknown, of a foreign workspace, or no id at all.

    Raises:
        Forbidden: it is of one of the viewer's workspaces, and their role does not let them see it.
    """
    viewer = context.who
    decoded = ids.decode(text)
    find = _FINDERS.get(decoded[0]) if decoded is not None else None
    if decoded is None or find is None:
        return None
    found = await find(context, decoded[1])
    if found is None or not exists_for(viewer, found):
        return None
    check_node(viewer, found)
    return found


def _by_key(find: Callable[[Context, UUID], Awaitable[Node | None]]) -> Find:
    """Return what finds a type whose id names a key alone."""

    async def found(context: Context, parts: Parts) -> Node | None:
        key = ids.uuid_of(parts[0]) if len(parts) == 1 else None
        return await find(context, key) if key is not None else None

    return found


def _by_place(find: Callable[[Context, Configuration, UUID], Node | None]) -> Find:
    """Return what finds a type whose id names a key within the configuration of a workspace."""

    async def found(context: Context, parts: Parts) -> Node | None:
        place = ids.pair_of(parts)
        configuration = await _configuration(context, place[0]) if place is not None else None
        return find(context, configuration, place[1]) if place is not None and configuration is not None else None

    return found


@_by_key
async def _account(context: Context, key: UUID) -> Node | None:
    viewer = context.who
    if key == viewer.account_id:
        return await links.account(context, key)
    shared = [one.workspace_id for one in await context.load.memberships(key) if viewer.sees(one.workspace_id)]
    if not shared:
        return None
    best = max(shared, key=lambda workspace_id: viewer.can(workspace_id, Permission.MEMBER_READ))
    return await links.account(context, key, best)


@_by_key
async def _member(context: Context, key: UUID) -> Node | None:
    found = await context.load.member(key)
    return links.member(found) if found is not None else None


@_by_key
async def _invited(context: Context, key: UUID) -> Node | None:
    found = await context.load.invited(key)
    return links.invited(found) if found is not None else None


@_by_key
async def _audit_entry(context: Context, key: UUID) -> Node | None:
    found = await context.load.audit_entry(key)
    # Those of no workspace are for nobody to read.
    return links.audit_entry(found) if found is not None and found.workspace_id is not None else None


@_by_key
async def _quota(context: Context, key: UUID) -> Node | None:
    found = await context.load.quota(key)
    return links.quota(found) if found is not None else None


@_by_key
async def _quota_entry(context: Context, key: UUID) -> Node | None:
    found = await context.load.quota_entry(key)
    return links.quota_entry(found) if found is not None else None


@_by_place
def _credential(context: Context, configuration: Configuration, key: UUID) -> Node | None:
    found = configuration.credentials.get(key)
    is_shown = found is not None and context.app.catalog.manifest(found.provider) is not None
    return links.optional_credential(configuration, found) if is_shown else None


@_by_place
def _pool(context: Context, configuration: Configuration, key: UUID) -> Node | None:
    found = next((pool for pool in configuration.pools.values() if pool.id == key), None)
    return links.pool(context, configuration, found)


async def _product(context: Context, parts: Parts) -> Node | None:
    place = ids.pair_of(parts)
    if place is None or await context.load.workspace(place[0]) is None:
        return None
    return await links.product(context, place[1], place[0])


async def _provider(context: Context, parts: Parts) -> Node | None:
    key = ids.uuid_of(parts[0])
    manifest = context.app.catalog.manifest(parts[1]) if len(parts) == 2 else None
    configuration = await _configuration(context, key) if key is not None and manifest is not None else None
    if manifest is None or configuration is None:
        return None
    return links.provider(configuration, manifest)


async def _model(context: Context, parts: Parts) -> Node | None:
    key = ids.model_of(parts)
    configuration = await _configuration(context, key[0]) if key is not None else None
    if key is None or configuration is None:
        return None
    known = find_model(configuration, context.app.catalog, key[1])
    return links.model(configuration, known) if known is not None else None


async def _configuration(context: Context, workspace_id: UUID) -> Configuration | None:
    """Return the configuration of one of the viewer's workspaces."""
    if not context.who.sees(workspace_id):
        return None
    try:
        return await context.configuration(workspace_id)
    except NotFound:
        return None


_FINDERS: Mapping[str, Find] = {
    "Account": _account,
    "ApiToken": _by_key(links.api_token),
    "AuditEntry": _audit_entry,
    "Credential": _credential,
    "Invitation": _invited,
    "Invocation": _by_key(links.invocation),
    "Member": _member,
    "Model": _model,
    "Order": _by_key(links.order),
    "Pool": _pool,
    "PoolMember": _by_place(links.pool_member),
    "Product": _product,
    "Provider": _provider,
    "Quota": _quota,
    "QuotaEntry": _quota_entry,
    "Workspace": _by_key(links.workspace),
}
"""How each type is found by the parts of its id."""


@strawberry.type(name="Query")
class NodeQuery:
    """Anything by its id."""

    @resolved
    async def node(
        self,
        info: Info,
        id: Annotated[strawberry.ID, argument("The object's id.")],
    ) -> Node | None:
        """Anything by its id; null where it is unknown or not one of yours."""
        return await find_node(info.context, id)

    @resolved
    async def nodes(
        self, info: Info, ids: Annotated[list[strawberry.ID], argument("The objects' ids, at most 100.")]
    ) -> list[Node | None]:
        """Several things by their ids, in the order of the ids; null where one is unknown, or not yours to see."""
        if len(ids) > MAX_IDS:
            raise InvalidInput(f"There are at most {MAX_IDS} ids.", path=("ids",))
        found = [find_node(info.context, text) for text in ids]
        return cast("list[Node | None]", found)  # each is awaited beside the others, and fails at its own path
