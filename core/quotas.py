"""Use cases of quotas: grant one, change its limit, end one; give every workspace what the operator has configured."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

import msgspec

from core.access import Permission, Viewer, require
from core.app import App
from core.audit import changes
from core.changes import Change, ChangeKind, Noun
from core.entities import BudgetPeriod, EntryKind, Quota, QuotaType, QuotaUnit
from core.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from core.hosted import MAX_AMOUNT
from core.ids import uuid7
from core.ledger import Change as LedgerChange
from core.ledger import period_start
from core.model_types import ModelKey
from core.ports.once import OnceKey
from core.ports.quotas import Note
from core.ports.transaction import Transaction

MAX_NOTE = 1000
MAX_KEY = 200
_GROUP = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewQuota:
    """What is to be granted. `provider` None: for every hosted one; `limit` None: without end."""

    workspace_id: UUID
    provider: str | None
    type: QuotaType
    unit: QuotaUnit
    limit: int | None
    restricted_to: tuple[ModelKey, ...] | None
    resets_every: BudgetPeriod | None
    note: str | None
    idempotency_key: str


async def grant_quota(app: App, viewer: Viewer, new: NewQuota) -> Quota:
    """Give a workspace a quota. The same key and input give the same quota again.

    Raises:
        NotFound: there is no such workspace.
        InvalidInput: the provider is not hosted, or an amount or period is not in order.
        AlreadyExists: one of this provider and type is live; `adjustQuota` changes it.
        Conflict: the key was used for something else.
    """
    require(viewer, new.workspace_id, Permission.QUOTA_MANAGE)
    _check_grant(app, new)
    now = app.clock.now()
    provider = _canonical(app, new.provider, ("provider",)) if new.provider is not None else None
    every = new.resets_every if new.resets_every is not BudgetPeriod.TOTAL else None
    quota = Quota(
        id=uuid7(),
        workspace_id=new.workspace_id,
        provider=provider,
        type=new.type,
        unit=new.unit,
        limit=new.limit,
        used=0,
        reserved=0,
        restricted_to=_restricted(app, new.restricted_to),
        resets_every=every,
        period=period_start(every, now),
        created_at=now,
    )
    key = once_key(viewer, new.workspace_id, "grantQuota", new.idempotency_key, new, quota.id)
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(new.workspace_id)
        repeated = await claimed(tx, key)
        if repeated is not None:
            return (await tx.quotas.get_many([repeated]))[repeated]
        note = Note(account_id=viewer.account_id, text=new.note)
        if not await tx.quotas.insert(quota, EntryKind.GRANT, note):
            raise AlreadyExists(
                f"The workspace has a live {new.type} quota for {provider or 'all hosted providers'} already: "
                "`adjustQuota` changes its limit, `archiveQuota` ends it.",
                path=("type",),
            )
        await tx.audit.add(
            workspace_id=new.workspace_id,
            viewer=viewer,
            action="quota.grant",
            subject=f"Quota:{quota.id}",
            summary=f"Granted {_amount(new.limit)} {new.unit} ({new.type}) for {provider or 'all hosted providers'}",
            changes=changes(limit=(None, new.limit)),
        )
        tx.news.add(quota_news(quota, ChangeKind.CREATED))
    return quota


async def adjust_quota(
    app: App, viewer: Viewer, quota_id: UUID, *, amount: int, note: str, idempotency_key: str
) -> Quota:
    """Raise the limit of a quota by an amount, or lower it by a negative one.

    Raises:
        NotFound: there is no such quota of a workspace that the viewer sees.
        InvalidInput: the amount is 0 or too large, or the limit would fall below what is used or held.
        Conflict: it is archived, or the key was used for something else.
    """
    found = await _seen(app, viewer, quota_id)
    _check_note(note)
    _check_key(idempotency_key)
    assert found.workspace_id is not None
    given = (str(quota_id), amount, note)
    key = once_key(viewer, found.workspace_id, "adjustQuota", idempotency_key, given, quota_id)
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(found.workspace_id)
        before = await tx.quotas.locked(quota_id)
        if before is None:
            raise _unknown()
        if await claimed(tx, key) is not None:
            return before
        if before.archived_at is not None:
            raise Conflict("This quota has ended: grant a new one with `grantQuota`.", path=("id",))
        _check_amount(before, amount)
        change = LedgerChange(kind=EntryKind.ADJUST, limit=amount)
        after = await tx.quotas.change(quota_id, change, Note(account_id=viewer.account_id, text=note))
        assert after is not None, "it is locked and live"
        await tx.audit.add(
            workspace_id=found.workspace_id,
            viewer=viewer,
            action="quota.adjust",
            subject=f"Quota:{quota_id}",
            summary=f"Changed the limit of a quota by {amount:+}",
            changes=changes(limit=(before.limit, after.limit)),
        )
        tx.news.add(quota_news(after, ChangeKind.UPDATED))
    return after


async def archive_quota(app: App, viewer: Viewer, quota_id: UUID, *, note: str | None) -> Quota:
    """End a quota: nothing more is held of it; calls under way are still booked. A second time changes nothing.

    Raises:
        NotFound: there is no such quota of a workspace that the viewer sees.
    """
    found = await _seen(app, viewer, quota_id)
    _check_note(note)
    assert found.workspace_id is not None
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(found.workspace_id)
        at = app.clock.now()
        if await tx.quotas.archive(quota_id, at):
            await tx.audit.add(
                workspace_id=found.workspace_id,
                viewer=viewer,
                action="quota.archive",
                subject=f"Quota:{quota_id}",
                summary=f"Ended a quota{f': {note}' if note else ''}",
                changes=changes(archivedAt=(None, at.isoformat())),
            )
            tx.news.add(quota_news(found, ChangeKind.UPDATED))
        return (await tx.quotas.get_many([quota_id]))[quota_id]


async def give_grants(app: App) -> int:
    """Give what the operator has configured to every workspace that never had it; return how many were given."""
    given = 0
    for provider, hosted in app.hosted.items():
        for grant in hosted.grants:
            while True:
                async with app.storage.transaction() as tx:
                    found = await tx.quotas.workspaces_without(provider, grant.type, limit=_GROUP)
                    for workspace_id in found:
                        given += await give_configured(app, tx, workspace_id, provider, grant.type)
                if len(found) < _GROUP:
                    break
    return given


async def give_configured(
    app: App, tx: Transaction, workspace_id: UUID, provider: str | None = None, only: QuotaType | None = None
) -> int:
    """Give a workspace the configured grants, or the one that is named; return how many were given."""
    given = 0
    if any(hosted.grants for hosted in app.hosted.values()):
        await tx.workspaces.touch(workspace_id)
    for name, hosted in app.hosted.items():
        for grant in hosted.grants if provider in {None, name} else ():
            if only not in {None, grant.type}:
                continue
            now = app.clock.now()
            quota = Quota(
                id=uuid7(),
                workspace_id=workspace_id,
                provider=name,
                type=grant.type,
                unit=grant.unit,
                limit=grant.limit,
                used=0,
                reserved=0,
                resets_every=grant.resets_every,
                period=period_start(grant.resets_every, now),
                created_at=now,
            )
            if await tx.quotas.insert(quota, EntryKind.GRANT, Note(text="Given by the operator's configuration")):
                tx.news.add(quota_news(quota, ChangeKind.CREATED))
                given += 1
    return given


def once_key(viewer: Viewer, workspace_id: UUID, operation: str, key: str, given: object, result_id: UUID) -> OnceKey:
    """Return what makes a repeat of an operation with this input one. InvalidInput if the key is empty or too long."""
    _check_key(key)
    return OnceKey(
        workspace_id=workspace_id,
        principal=viewer.principal,
        operation=operation,
        key=key,
        input_hash=sha256(msgspec.json.encode(given, order="sorted")).digest(),
        result_id=result_id,
    )


async def claimed(tx: Transaction, key: OnceKey) -> UUID | None:
    """Claim a key with the transaction; return what it made before, None if this is the first time.

    Raises:
        Conflict: it was used with another input.
    """
    repeated = await tx.once.claim(key)
    if repeated is not None and repeated.input_hash != key.input_hash:
        raise Conflict("This `idempotencyKey` was used with another input: choose a new one.", path=("idempotencyKey",))
    return repeated.result_id if repeated is not None else None


async def _seen(app: App, viewer: Viewer, quota_id: UUID) -> Quota:
    async with app.storage.read() as tx:
        found = (await tx.quotas.get_many([quota_id])).get(quota_id)
    if found is None or found.workspace_id is None or not viewer.sees(found.workspace_id):
        raise _unknown()
    require(viewer, found.workspace_id, Permission.QUOTA_MANAGE)
    return found


def _unknown() -> NotFound:
    return NotFound("There is no such quota, or it is not one of yours.", path=("id",))


def quota_news(quota: Quota, kind: ChangeKind) -> Change:
    """Return what is told of a quota that has changed."""
    assert quota.workspace_id is not None
    return Change(workspace_id=quota.workspace_id, noun=Noun.QUOTA, key=str(quota.id), kind=kind)


def _amount(limit: int | None) -> str:
    return "unlimited" if limit is None else str(limit)


def _canonical(app: App, provider: str, path: tuple[str, ...]) -> str:
    name = app.catalog.canonical(provider)
    if name is None or name not in app.hosted:
        hosted = ", ".join(app.hosted) or "none"
        raise InvalidInput(f"{provider!r} is not hosted here; hosted are: {hosted}.", path=path)
    return name


def _restricted(app: App, models: Sequence[ModelKey] | None) -> frozenset[ModelKey] | None:
    if models is None:
        return None
    return frozenset(
        ModelKey(
            provider=_canonical(app, key.provider, ("restrictedTo", str(number), "provider")),
            name=key.name,
            type=key.type,
        )
        for number, key in enumerate(models)
    )


def _check_grant(app: App, new: NewQuota) -> None:
    if new.limit is not None and not 0 <= new.limit <= MAX_AMOUNT:
        raise InvalidInput(f"A limit is 0 to {MAX_AMOUNT:,}; leave it out for none.", path=("limit",))
    if new.type is QuotaType.PAID and new.resets_every not in {None, BudgetPeriod.TOTAL}:
        raise InvalidInput("PAID quota never resets: leave `resetsEvery` out.", path=("resetsEvery",))
    if new.restricted_to is not None and not new.restricted_to:
        raise InvalidInput("Name at least one model, or leave it out for all.", path=("restrictedTo",))
    _check_note(new.note)
    _check_key(new.idempotency_key)


def _check_amount(quota: Quota, amount: int) -> None:
    if quota.limit is None:
        raise InvalidInput("This quota has no limit that could be changed.", path=("id",))
    if not amount or abs(amount) > MAX_AMOUNT or quota.limit + amount > MAX_AMOUNT:
        raise InvalidInput(f"An amount is not 0, and the limit is at most {MAX_AMOUNT:,}.", path=("amount",))
    if amount < 0 and quota.limit + amount < quota.used + quota.reserved:
        raise InvalidInput(
            f"{quota.used} are used and {quota.reserved} are held: the limit cannot fall below that.",
            path=("amount",),
        )


def _check_note(note: str | None) -> None:
    if note is not None and len(note) > MAX_NOTE:
        raise InvalidInput(f"A note has at most {MAX_NOTE} characters.", path=("note",))


def _check_key(key: str) -> None:
    if not key or len(key) > MAX_KEY:
        raise InvalidInput(f"A key has 1 to {MAX_KEY} characters.", path=("idempotencyKey",))
