"""Who a bearer secret stands for, by one read that many callers share."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, LargeBinary, Row, Select, Uuid, bindparam, func, or_, select

from core.access import Allowance, Membership, Role, Viewer, lower
from core.ports.clock import Clock
from storage.accounts import accounts
from storage.batch import Batch
from storage.budgets import budgets
from storage.last_used import LastUsed
from storage.members import members
from storage.tokens import api_tokens
from storage.transaction import SqlStorage
from storage.workspaces import workspaces

_GROUP = 200


def _viewers(key: ColumnElement[Any], condition: ColumnElement[bool]) -> Select[Any]:
    """Return the read of tokens, each with its account and one row a membership of that account."""
    token = api_tokens.c
    in_scope = or_(token.workspace_id.is_(None), members.c.workspace_id == token.workspace_id)
    return (
        select(
            key,
            token.id,
            token.role,
            token.workspace_id,
            token.account_id,
            token.allowed_models,
            token.credential_ids,
            token.expires_at,
            accounts.c.is_operator,
            token.requests_per_minute,
            token.tokens_per_minute,
            budgets.c.id.label("budget_id"),
            budgets.c.currency,
            members.c.role.label("member_role"),
            workspaces.c.id.label("member_workspace"),
            workspaces.c.config_version,
        )
        .select_from(api_tokens)
        .outerjoin(budgets, (budgets.c.token_id == token.id) & budgets.c.archived_at.is_(None))
        .outerjoin(accounts, accounts.c.id == token.account_id)
        .outerjoin(members, (members.c.account_id == token.account_id) & in_scope)
        .outerjoin(workspaces, workspaces.c.id == func.coalesce(members.c.workspace_id, token.workspace_id))
        .where(condition, token.revoked_at.is_(None))
    )


_BY_HASH = _viewers(api_tokens.c.hash, api_tokens.c.hash.in_(bindparam("keys", expanding=True, type_=LargeBinary)))
_BY_ID = _viewers(api_tokens.c.id.label("key"), api_tokens.c.id.in_(bindparam("keys", expanding=True, type_=Uuid)))


class SqlIdentity:
    """Reads viewers. Calls that wait at the same time share one statement."""

    def __init__(self, storage: SqlStorage, clock: Clock, last_used: LastUsed) -> None:
        self._storage = storage
        self._last_used = last_used
        self._clock = clock
        self._batch: Batch[bytes, Viewer | None] = Batch(self._by_hash, limit=_GROUP)

    async def viewer(self, token_hash: bytes) -> Viewer | None:
        """Return the viewer of a SHA-256 of a secret; None when unknown, revoked or expired."""
        return await self._batch.do(token_hash)

    async def viewers(self, token_ids: Sequence[UUID]) -> Mapping[UUID, Viewer | None]:
        """Return the viewer that each of these tokens stands for now, None where it stands for none; one read."""
        async with self._storage.single() as connection:
            rows = await connection.rows(_BY_ID, {"keys": list(token_ids)})
        found = _grouped(rows)
        return {token_id: _viewer(found.get(token_id, ()), self._clock.now()) for token_id in token_ids}

    async def close(self) -> None:
        """Wait for reads that are under way."""
        await self._batch.close()

    async def _by_hash(self, hashes: Sequence[bytes]) -> Sequence[Viewer | BaseException | None]:
        keys = {"keys": list(set(hashes))}
        rows = await self._storage.read_hot(lambda connection: connection.execute(_BY_HASH, keys).all())
        now = self._clock.now()
        found = {key: _viewer(of_token, now) for key, of_token in _grouped(rows).items()}
        for viewer in found.values():
            if viewer is not None:
                self._last_used.note_token(viewer.token_id)
        return [found.get(token_hash) for token_hash in hashes]


def _grouped(rows: Iterable[Row[Any]]) -> dict[Any, list[Row[Any]]]:
    groups: dict[Any, list[Row[Any]]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row)
    return groups


def _viewer(rows: Sequence[Row[Any]], now: datetime) -> Viewer | None:
    """Return the viewer of one token's rows; None if it stands for nobody."""
    if not rows:
        return None
    _, id_, role_name, workspace_id, account_id, allowed, pinnable, expires_at, is_operator = (first := tuple(rows[0]))[
        :9
    ]
    if expires_at is not None and expires_at <= now:
        return None
    role = Role(role_name)
    memberships = _memberships(rows, role, is_service=account_id is None)
    if workspace_id is not None and not memberships:
        return None
    return Viewer(
        token_id=id_,
        account_id=account_id,
        is_operator=bool(is_operator) and workspace_id is None,
        workspace_id=workspace_id,
        token_role=role,
        memberships=memberships,
        allowed_models=None if allowed is None else frozenset(allowed),
        pinnable_credentials=frozenset(pinnable or ()),
        expires_at=expires_at,
        allowance=_allowance(*first[9:13]),
    )


def _allowance(
    requests: int | None, tokens: int | None, budget_id: UUID | None, currency: str | None
) -> Allowance | None:
    if requests is None and tokens is None and budget_id is None:
        return None
    return Allowance(budget_id=budget_id, currency=currency, requests_per_minute=requests, tokens_per_minute=tokens)


def _memberships(rows: Sequence[Row[Any]], role: Role, *, is_service: bool) -> dict[UUID, Membership]:
    found = {}
    for row in rows:
        member_role, workspace_id, version = tuple(row)[-3:]
        if workspace_id is None or (member_role is None and not is_service):
            continue
        held = role if is_service else lower(role, Role(member_role))
        found[workspace_id] = Membership(workspace_id=workspace_id, role=held, version=version)
    return found
