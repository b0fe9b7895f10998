"""Use cases of pools: save one whole, switch it, end a rest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.audit import changes
from core.changing import changing
from core.configuration import Configuration
from core.entities import Pool, PoolMember, PoolStrategy
from core.errors import Conflict, InvalidInput, ModelNotFound, NotFound
from core.ids import uuid7
from core.live import changes_of_pools
from core.model_types import ModelKey
from core.resolve import Known, find_model, pool_candidates, serves

MAX_MEMBERS = 50
MAX_WEIGHT = 1000
MAX_NAME = 64
HEDGE = (50, 99)
DEFAULT_CONFIG = "Default Config"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """A member as it is asked for. `credential_id` None: the Default Config; `name` None: the credential's."""

    credential_id: UUID | None = None
    name: str | None = None
    enabled: bool = True
    weight: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPool:
    """The whole pool of a model as it is asked for. `expected_version` None: whatever is there is replaced."""

    key: ModelKey
    enabled: bool
    strategy: PoolStrategy
    members: Sequence[NewMember]
    hedge_percentile: int | None = None
    expected_version: int | None = None
    workspace_id: UUID | None = None


class PoolConflict(Conflict):
    """Somebody else changed the pool first; `current` is how it is now, None where there is none."""

    def __init__(self, message: str, configuration: Configuration, current: Pool | None) -> None:
        super().__init__(message, path=("expectedVersion",))
        self.configuration = configuration
        self.current = current


async def save_pool(app: App, viewer: Viewer, new: NewPool) -> tuple[Configuration, Pool]:
    """Replace the pool of a model in one transaction; members whose credential stays keep their id and their counts.

    Raises:
        ModelNotFound: the workspace has no such model.
        NotFound: a credential is not there.
        InvalidInput: a member, a weight or a credential breaks the rules, or fewer than two are enabled.
        PoolConflict: it is no longer of the version that was expected.
    """
    workspace_id = workspace_of(viewer, new.workspace_id)
    require(viewer, workspace_id, Permission.POOL_MANAGE)
    _check_form(new)
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        known = _known(app, before, new.key)
        current = before.pools.get(known.key)
        if new.expected_version is not None and new.expected_version != (current.version if current else 0):
            raise PoolConflict("The pool was changed meanwhile: look at it again.", before, current)
        pool = _pool(before, known, current, new)
        await tx.pools.put(workspace_id, pool)
        await tx.audit.add(
            workspace_id=workspace_id,
            viewer=viewer,
            action="pool.save",
            subject=f"Pool:{pool.id}",
            summary=f"Saved the pool of the model {known.key.name!r} of {known.key.provider}",
            changes=changes(pool=(_told(current), _told(pool))),
        )
    return change.after, change.after.pools[known.key]


async def set_pool_enabled(
    app: App, viewer: Viewer, workspace_id: UUID, pool_id: UUID, *, enabled: bool
) -> tuple[Configuration, Pool]:
    """Switch a pool on or off; switched off, it is kept.

    Raises:
        NotFound: there is no such pool of the viewer's.
        InvalidInput: fewer than two of its members are enabled.
    """
    if not viewer.sees(workspace_id):
        raise _no_pool()
    require(viewer, workspace_id, Permission.POOL_MANAGE)
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        current = find_pool(before, pool_id)
        if enabled:
            _check_enabled([member.enabled for member in current.members])
        if current.enabled is not enabled:
            await tx.pools.put(workspace_id, replace(current, enabled=enabled, version=current.version + 1))
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="pool.enable" if enabled else "pool.disable",
                subject=f"Pool:{pool_id}",
                summary=f"Switched the pool of {current.key.name!r} of {current.key.provider} "
                f"{'on' if enabled else 'off'}",
                changes=changes(enabled=(current.enabled, enabled)),
            )
    return change.after, change.after.pools[current.key]


async def end_cooldown(app: App, viewer: Viewer, workspace_id: UUID, member_id: UUID) -> tuple[Configuration, Pool]:
    """End the rest of a member, for all models and for the pool's: the next call is a trial.

    Raises:
        NotFound: there is no such member of the viewer's.
    """
    if not viewer.sees(workspace_id):
        raise _no_member()
    require(viewer, workspace_id, Permission.POOL_MANAGE)
    configuration = await app.configurations.get(workspace_id)
    pool, member = _member(configuration, member_id)
    known = find_model(configuration, app.catalog, pool.key)
    candidates = pool_candidates(configuration, known)[0] if known is not None else ()
    credential = next((one.credential for one in candidates if one.member == member), None)
    if credential is not None and await app.pools.end_rests(workspace_id, pool.id, credential.id):
        async with app.storage.transaction() as tx:
            for change in changes_of_pools(configuration, credential.id):
                tx.news.add(change)
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="pool.end_cooldown",
                subject=f"PoolMember:{member_id}",
                summary=f"Ended the rest of {member.name!r} in the pool of {pool.key.name!r} of {pool.key.provider}",
            )
    return configuration, pool


def _member(configuration: Configuration, member_id: UUID) -> tuple[Pool, PoolMember]:
    for pool in configuration.pools.values():
        for member in pool.members:
            if member.id == member_id:
                return pool, member
    raise _no_member()


def find_pool(configuration: Configuration, pool_id: UUID) -> Pool:
    """Return a pool of the workspace. NotFound if there is none of this id."""
    found = next((pool for pool in configuration.pools.values() if pool.id == pool_id), None)
    if found is None:
        raise _no_pool()
    return found


def _no_pool() -> NotFound:
    return NotFound("There is no Pool of this id, or it is not one of yours.", path=("id",))


def _no_member() -> NotFound:
    return NotFound("There is no PoolMember of this id, or it is not one of yours.", path=("memberId",))


def _known(app: App, configuration: Configuration, key: ModelKey) -> Known:
    provider = app.catalog.canonical(key.provider)
    found = (
        find_model(configuration, app.catalog, ModelKey(provider=provider, name=key.name, type=key.type))
        if provider is not None
        else None
    )
    if found is None:
        raise ModelNotFound(f"There is no model {key.name!r} of {key.provider} here.", path=("model",))
    return found


def _check_form(new: NewPool) -> None:
    """Check what can be told without the workspace's configuration."""
    if len(new.members) > MAX_MEMBERS:
        raise InvalidInput(f"A pool has at most {MAX_MEMBERS} members.", path=("members",))
    if new.hedge_percentile is not None and not HEDGE[0] <= new.hedge_percentile <= HEDGE[1]:
        raise InvalidInput(f"The percentile is from {HEDGE[0]} to {HEDGE[1]}, or null.", path=("hedgePercentile",))
    seen: set[UUID | None] = set()
    for number, member in enumerate(new.members):
        place = ("members", str(number))
        if not 1 <= member.weight <= MAX_WEIGHT:
            raise InvalidInput(f"A weight is from 1 to {MAX_WEIGHT}.", path=(*place, "weight"))
        if member.name is not None and not 1 <= len(member.name.strip()) <= MAX_NAME:
            raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=(*place, "name"))
        if member.credential_id in seen:
            what = "The Default Config" if member.credential_id is None else "This credential"
            raise InvalidInput(f"{what} stands in the pool already.", path=(*place, "credentialId"))
        seen.add(member.credential_id)
    if new.enabled:
        _check_enabled([member.enabled for member in new.members])


def _check_enabled(enabled: Sequence[bool]) -> None:
    if sum(enabled) < 2:
        raise InvalidInput("A pool that is switched on needs two enabled members at the least.", path=("enabled",))


def _pool(configuration: Configuration, known: Known, current: Pool | None, new: NewPool) -> Pool:
    names = [_name(configuration, known, member.credential_id, number) for number, member in enumerate(new.members)]
    kept = {member.credential_id: member.id for member in current.members} if current is not None else {}
    return Pool(
        id=current.id if current is not None else uuid7(),
        key=known.key,
        enabled=new.enabled,
        strategy=new.strategy,
        hedge_percentile=new.hedge_percentile,
        version=current.version + 1 if current is not None else 1,
        members=tuple(
            PoolMember(
                id=kept.get(member.credential_id) or uuid7(),
                credential_id=member.credential_id,
                name=(member.name or name).strip(),
                enabled=member.enabled,
                weight=member.weight,
            )
            for member, name in zip(new.members, names, strict=True)
        ),
    )


def _name(configuration: Configuration, known: Known, credential_id: UUID | None, number: int) -> str:
    """Return what a member is called unless it is said; its credential must be one that serves the model."""
    if credential_id is None:
        return DEFAULT_CONFIG
    path = ("members", str(number), "credentialId")
    credential = configuration.credentials.get(credential_id)
    if credential is None:
        raise NotFound("There is no credential of this id, or it is not one of yours.", path=path)
    if not serves(credential, known):
        raise InvalidInput(
            f"This credential does not serve the model {known.key.name!r} of {known.key.provider}.", path=path
        )
    return credential.name


def _told(pool: Pool | None) -> Any:
    if pool is None:
        return None
    return {
        "enabled": pool.enabled,
        "strategy": pool.strategy.value,
        "hedgePercentile": pool.hedge_percentile,
        "members": [
            {
                "credential": str(member.credential_id) if member.credential_id else None,
                "name": member.name,
                "enabled": member.enabled,
                "weight": member.weight,
            }
            for member in pool.members
        ],
    }
