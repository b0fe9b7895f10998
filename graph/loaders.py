"""Reads that the fields of one operation share: what is asked for at the same time is one read."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader

from core.access import Viewer
from core.app import App
from core.entities import (
    Account,
    ApiToken,
    AuditEntry,
    Budget,
    Invitation,
    Invocation,
    KeyRotation,
    Member,
    Order,
    Pool,
    Product,
    Quota,
    QuotaEntry,
    Workspace,
)
from core.pool_health import pools_now
from core.ports.pool_state import PoolNow
from core.ports.transaction import Transaction

V = TypeVar("V")
Read = Callable[[Transaction, Sequence[UUID]], Awaitable[Mapping[UUID, V]]]

MAX_BATCH = 200


class Loaders:
    """One batching loader a noun. Nothing is kept: a batch opens its own read and forgets it."""

    def __init__(self, app: App, viewer: Viewer | None) -> None:
        self._app = app
        self._memberships = list(viewer.memberships) if viewer is not None else []
        self._accounts = self._loader(_accounts)
        self._workspaces = self._loader(_workspaces)
        self._tokens = self._loader(_tokens)
        self._budgets = self._loader(_budgets)
        self._pools_now = DataLoader(load_fn=self._read_pools, max_batch_size=MAX_BATCH, cache=False)
        self._rotations = self._loader(_rotations)
        self._members = self._loader(_members)
        self._invited = self._loader(_invited)
        self._audit_entries = self._loader(_audit_entries)
        self._invocations = self._loader(self._read_invocations)
        self._quotas = self._loader(_quotas)
        self._quota_entries = self._loader(_quota_entries)
        self._entries_of_calls = self._loader(_entries_of_calls)
        self._orders = self._loader(_orders)
        self._products = self._loader(_products)
        self._last_used = self._loader(self._read_last_used)
        self._memberships_of = self._loader(_memberships_of)

    async def account(self, account_id: UUID) -> Account | None:
        """Return a person."""
        return await self._accounts.load(account_id)

    async def workspace(self, workspace_id: UUID) -> Workspace | None:
        """Return a workspace, whoever asks."""
        return await self._workspaces.load(workspace_id)

    async def key_rotation(self, workspace_id: UUID) -> KeyRotation | None:
        """Return the newest rotation of a workspace's key, whoever asks."""
        return await self._rotations.load(workspace_id)

    async def pool_now(self, workspace_id: UUID, pool: Pool) -> PoolNow:
        """Return how a pool stands."""
        return await self._pools_now.load((workspace_id, pool))

    async def token(self, token_id: UUID) -> ApiToken | None:
        """Return a token, whoever asks."""
        return await self._tokens.load(token_id)

    async def budget(self, token_id: UUID) -> Budget | None:
        """Return the budget of a token, whoever asks."""
        return await self._budgets.load(token_id)

    async def member(self, member_id: UUID) -> Member | None:
        """Return a membership, whoever asks."""
        return await self._members.load(member_id)

    async def memberships(self, account_id: UUID) -> Sequence[Member]:
        """Return all memberships of a person, whoever asks."""
        return await self._memberships_of.load(account_id) or ()

    async def invited(self, invitation_id: UUID) -> Invitation | None:
        """Return an invitation, whoever asks."""
        return await self._invited.load(invitation_id)

    async def audit_entry(self, entry_id: UUID) -> AuditEntry | None:
        """Return a change, whoever asks."""
        return await self._audit_entries.load(entry_id)

    async def invocation(self, invocation_id: UUID) -> Invocation | None:
        """Return an invocation of one of the viewer's workspaces."""
        return await self._invocations.load(invocation_id)

    async def quota(self, quota_id: UUID) -> Quota | None:
        """Return a quota, whoever asks."""
        return await self._quotas.load(quota_id)

    async def quota_entry(self, entry_id: UUID) -> QuotaEntry | None:
        """Return a change of a quota, whoever asks."""
        return await self._quota_entries.load(entry_id)

    async def quota_entries(self, invocation_id: UUID) -> Sequence[QuotaEntry]:
        """Return what a call has changed of quotas, whoever asks."""
        return await self._entries_of_calls.load(invocation_id) or ()

    async def order(self, order_id: UUID) -> Order | None:
        """Return an order, whoever asks."""
        return await self._orders.load(order_id)

    async def product(self, product_id: UUID) -> Product | None:
        """Return a product."""
        return await self._products.load(product_id)

    async def credential_last_used(self, credential_id: UUID) -> datetime | None:
        """Return when a credential of one of the viewer's workspaces was last used."""
        return await self._last_used.load(credential_id)

    def _loader(self, read: Read[V]) -> DataLoader[UUID, V | None]:
        async def load(keys: list[UUID]) -> list[V | None]:
            async with self._app.storage.read() as tx:
                found = await read(tx, keys)
            return [found.get(key) for key in keys]

        return DataLoader(load_fn=load, max_batch_size=MAX_BATCH, cache=False)

    async def _read_pools(self, keys: list[tuple[UUID, Pool]]) -> list[PoolNow]:
        by_workspace: dict[UUID, list[Pool]] = {}
        for workspace_id, pool in keys:
            by_workspace.setdefault(workspace_id, []).append(pool)
        found: dict[UUID, PoolNow] = {}
        for workspace_id, pools in by_workspace.items():
            found |= await pools_now(self._app, workspace_id, pools)
        return [found[pool.id] for _, pool in keys]

    async def _read_invocations(self, tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Invocation]:
        return await tx.invocations.get_many(self._memberships, ids)

    async def _read_last_used(self, tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, datetime]:
        return await tx.credentials.last_used(self._memberships, ids)


async def _accounts(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Account]:
    return await tx.accounts.get_many(ids)


async def _workspaces(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Workspace]:
    return await tx.workspaces.get_many(ids)


async def _rotations(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, KeyRotation]:
    return await tx.keys.rotations(ids)


async def _tokens(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, ApiToken]:
    return await tx.tokens.get_many(ids)


async def _budgets(tx: Transaction, token_ids: Sequence[UUID]) -> Mapping[UUID, Budget]:
    return await tx.budgets.of_tokens(token_ids)


async def _quotas(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Quota]:
    return await tx.quotas.get_many(ids)


async def _quota_entries(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, QuotaEntry]:
    return await tx.quotas.entries_by_id(ids)


async def _entries_of_calls(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Sequence[QuotaEntry]]:
    return await tx.quotas.entries_of(ids)


async def _orders(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Order]:
    return await tx.orders.get_many(ids)


async def _products(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Product]:
    return await tx.products.get_many(ids)


async def _members(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Member]:
    return await tx.members.get_many(ids)


async def _invited(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Invitation]:
    return await tx.invitations.get_many(ids)


async def _audit_entries(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, AuditEntry]:
    return await tx.audit.get_many(ids)


async def _memberships_of(tx: Transaction, ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Member]]:
    return await tx.members.of_accounts(ids)
