"""Use cases of bearer tokens: make one, change one, revoke one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from uuid import UUID

from core.access import Permission, Role, Viewer, require, require_unlimited
from core.app import App
from core.audit import changes
from core.budgets import checked_ceiling, told
from core.entities import ApiToken, Ceiling
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.ids import uuid7
from core.model_types import ModelKey
from core.ports.transaction import Transaction
from core.secret import SHOWN, Secret, hash_secret, new_secret
from core.settings import MAX_PER_MINUTE

MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """What a token is to be. Without a workspace it is personal; `service` stands for no person."""

    name: str
    role: Role
    workspace_id: UUID | None = None
    service: bool = False
    allowed_models: tuple[ModelKey, ...] | None = None
    credential_ids: tuple[UUID, ...] | None = None
    budget: Ceiling | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires_at: datetime | None = None


class Keep(Enum):
    """What stands where a value is to stay as it is; None clears it."""

    KEEP = "KEEP"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChange:
    """What is to change of a token."""

    name: str | Keep = KEEP
    allowed_models: tuple[ModelKey, ...] | Keep | None = KEEP
    credential_ids: tuple[UUID, ...] | Keep | None = KEEP
    budget: Ceiling | Keep | None = KEEP
    requests_per_minute: int | Keep | None = KEEP
    tokens_per_minute: int | Keep | None = KEEP
    expires_at: datetime | Keep | None = KEEP


def personal_token(
    account_id: UUID,
    secret: Secret,
    name: str,
    now: datetime,
    role: Role = Role.OWNER,
    allowed_models: tuple[ModelKey, ...] | None = None,
) -> ApiToken:
    """Return a token of a person, good in each of their workspaces, that has not been stored yet."""
    return ApiToken(
        id=uuid7(),
        name=name,
        prefix=secret.reveal()[:SHOWN],
        role=role,
        workspace_id=None,
        account_id=account_id,
        allowed_models=allowed_models,
        credential_ids=None,
        expires_at=None,
        last_used_at=None,
        revoked_at=None,
        created_at=now,
        created_by=account_id,
    )


async def create_token(app: App, viewer: Viewer, new: NewToken) -> tuple[ApiToken, Secret]:
    """Make a token and return it with its secret, which is not to be had again.

    Raises:
        Forbidden: the role is above the maker's own, or the maker may not make such a token.
        InvalidInput: a name, limit, time, model or credential is not in order.
    """
    now, name = app.clock.now(), _checked_name(new.name)
    _check_end(viewer, new.expires_at, now)
    models = _canonical(app, new.allowed_models)
    budget = checked_ceiling(new.budget) if new.budget is not None else None
    _check_reach(viewer, models)
    require_unlimited(viewer, "make tokens")
    if new.workspace_id is None:
        _check_personal(viewer, new)
    else:
        require(viewer, new.workspace_id, Permission.WORKSPACE_READ if not new.service else Permission.TOKEN_MANAGE)
        _check_place(viewer, new, new.workspace_id)
        await _check_credentials(app, viewer, new.workspace_id, new.credential_ids)
    secret = new_secret()
    token = ApiToken(
        id=uuid7(),
        name=name,
        prefix=secret.reveal()[:SHOWN],
        role=new.role,
        workspace_id=new.workspace_id,
        account_id=None if new.service else viewer.account_id,
        allowed_models=models,
        credential_ids=new.credential_ids,
        expires_at=new.expires_at,
        last_used_at=None,
        revoked_at=None,
        created_at=now,
        created_by=viewer.account_id,
        requests_per_minute=_checked_rate(new.requests_per_minute, "requestsPerMinute"),
        tokens_per_minute=_checked_rate(new.tokens_per_minute, "tokensPerMinute"),
    )
    async with app.storage.transaction() as tx:
        await tx.tokens.insert(token, hash_secret(secret.reveal()))
        if budget is not None:
            await tx.budgets.put(token.id, budget)
        await tx.audit.add(
            workspace_id=new.workspace_id,
            viewer=viewer,
            action="token.create",
            subject=f"ApiToken:{token.id}",
            summary=f"Created the token {token.name!r} ({token.role})",
            changes=changes(role=(None, token.role), **_told(None, (token, budget))),
        )
    return token, secret


async def update_token(app: App, viewer: Viewer, token_id: UUID, change: TokenChange) -> ApiToken:
    """Change the name, the limits or the end of a token: one's own, or with TOKEN_MANAGE one of the workspace.

    A budget with another limit keeps what is spent; one in another currency or for another period begins anew.

    Raises:
        NotFound: there is no such token that the viewer may change, or a listed credential is not there.
        Forbidden: the token may more than the viewer, or would; or the viewer's token is limited and would widen one.
        Conflict: it is revoked.
        InvalidInput: a name, limit, time or model is not in order.
    """
    async with app.storage.read() as tx:
        found = _visible(viewer, await tx.tokens.get(token_id), "change")
    _check_power(viewer, found)
    await _check_change(app, viewer, found, change)
    async with app.storage.transaction() as tx:
        before = _visible(viewer, await tx.tokens.locked(token_id), "change")
        if before.revoked_at is not None:
            raise Conflict("This token is revoked for good: make a new one.", path=("id",))
        after = _changed(app, before, change)
        had = await _ceiling(tx, token_id)
        budget = had if change.budget is KEEP else change.budget and checked_ceiling(change.budget)
        if (after, budget) == (before, had):
            return before
        _check_allowance(viewer, (before, had), (after, budget))
        await tx.tokens.update(after)
        if budget != had:
            await tx.budgets.put(token_id, budget)
        await tx.audit.add(
            workspace_id=after.workspace_id,
            viewer=viewer,
            action="token.update",
            subject=f"ApiToken:{token_id}",
            summary=f"Changed the token {before.name!r}",
            changes=changes(**_told((before, had), (after, budget))),
        )
    return after


async def revoke_token(app: App, viewer: Viewer, token_id: UUID) -> ApiToken:
    """Revoke a token: one's own, or with TOKEN_MANAGE one of the workspace. It stops at once.

    Raises:
        NotFound: there is no such token that the viewer may revoke.
    """
    async with app.storage.transaction() as tx:
        token = _visible(viewer, await tx.tokens.locked(token_id), "revoke")
        at = app.clock.now()
        if not await tx.tokens.revoke(token_id, at):
            return token
        await tx.audit.add(
            workspace_id=token.workspace_id,
            viewer=viewer,
            action="token.revoke",
            subject=f"ApiToken:{token.id}",
            summary=f"Revoked the token {token.name!r}",
            changes=changes(revokedAt=(None, at.isoformat())),
        )
    return replace(token, revoked_at=at)


def may_see_token(viewer: Viewer, token: ApiToken) -> bool:
    """Tell whether a token is the viewer's own, or one of a workspace whose tokens they manage."""
    if token.id == viewer.token_id:
        return True
    if token.workspace_id is None:
        return token.account_id is not None and token.account_id == viewer.account_id and viewer.workspace_id is None
    mine = token.account_id is not None and token.account_id == viewer.account_id
    return (mine and viewer.sees(token.workspace_id)) or viewer.can(token.workspace_id, Permission.TOKEN_MANAGE)


def _visible(viewer: Viewer, token: ApiToken | None, verb: str) -> ApiToken:
    if token is None or not may_see_token(viewer, token):
        raise NotFound(f"There is no such token that you may {verb}.", path=("id",))
    return token


def _changed(app: App, token: ApiToken, change: TokenChange) -> ApiToken:
    models, credentials, end = change.allowed_models, change.credential_ids, change.expires_at
    requests, tokens = change.requests_per_minute, change.tokens_per_minute
    return replace(
        token,
        name=token.name if change.name is KEEP else _checked_name(change.name),
        allowed_models=token.allowed_models if models is KEEP else _canonical(app, models),
        credential_ids=token.credential_ids if credentials is KEEP else credentials,
        expires_at=token.expires_at if end is KEEP else end,
        requests_per_minute=(
            token.requests_per_minute if requests is KEEP else _checked_rate(requests, "requestsPerMinute")
        ),
        tokens_per_minute=token.tokens_per_minute if tokens is KEEP else _checked_rate(tokens, "tokensPerMinute"),
    )


_Allowed = tuple[ApiToken, Ceiling | None]


def _told(before: _Allowed | None, after: _Allowed) -> dict[str, tuple[object, object]]:
    """Return what the audit log tells of a token and its budget that can change."""
    old, new = _plain(*before) if before is not None else {}, _plain(*after)
    return {name: (old.get(name), value) for name, value in new.items()}


def _plain(token: ApiToken, budget: Ceiling | None) -> dict[str, object]:
    models, credentials, end = token.allowed_models, token.credential_ids, token.expires_at
    return {
        "name": token.name,
        "allowedModels": [f"{key.provider}/{key.type}/{key.name}" for key in models] if models is not None else None,
        "credentialIds": [str(one) for one in credentials] if credentials is not None else None,
        "expiresAt": end.isoformat() if end is not None else None,
        "budget": told(budget) if budget is not None else None,
        "requestsPerMinute": token.requests_per_minute,
        "tokensPerMinute": token.tokens_per_minute,
    }


# ---- what is refused


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=("name",))
    return name


def _checked_rate(given: int | None, name: str) -> int | None:
    if given is not None and not 1 <= given <= MAX_PER_MINUTE:
        raise InvalidInput(f"`{name}` is 1 to {MAX_PER_MINUTE:,}; to stop a token, revoke it.", path=(name,))
    return given


def _check_end(viewer: Viewer, expires_at: datetime | None, now: datetime) -> None:
    """A workspace's token gives none that outlasts it; a person renews theirs."""
    if expires_at is not None and expires_at <= now:
        raise InvalidInput("The time of expiry is over already.", path=("expiresAt",))
    own = viewer.expires_at if viewer.workspace_id is not None else None
    if own is not None and (expires_at is None or expires_at > own):
        raise Forbidden("Your token ends before: use a personal one.", path=("expiresAt",))


def _check_reach(viewer: Viewer, models: Sequence[ModelKey] | None) -> None:
    """A token that is limited to some models gives none that reaches further."""
    if viewer.allowed_models is not None and (models is None or not set(models) <= viewer.allowed_models):
        raise Forbidden("Your token is limited to some models: it cannot give more.", path=("allowedModels",))


def _check_allowance(viewer: Viewer, before: _Allowed, after: _Allowed) -> None:
    """A token that is limited itself only lowers the limits of tokens, its own included."""
    if viewer.allowance is None:
        return
    (old, had), (new, has) = before, after
    problem = "Your token has a budget or limits a minute: it may lower those of tokens, not raise or clear them."
    if had is not None and (has is None or not _is_within(has, had)):
        raise Forbidden(problem, path=("budget",))
    for name, was, now in (
        ("requestsPerMinute", old.requests_per_minute, new.requests_per_minute),
        ("tokensPerMinute", old.tokens_per_minute, new.tokens_per_minute),
    ):
        if was is not None and (now is None or now > was):
            raise Forbidden(problem, path=(name,))


def _is_within(one: Ceiling, other: Ceiling) -> bool:
    return (one.currency, one.period) == (other.currency, other.period) and one.limit <= other.limit


async def _ceiling(tx: Transaction, token_id: UUID) -> Ceiling | None:
    found = (await tx.budgets.of_tokens([token_id])).get(token_id)
    return found.ceiling if found is not None else None


def _check_power(viewer: Viewer, token: ApiToken) -> None:
    """Nobody changes a token that may more than they."""
    is_own = token.account_id is not None and token.account_id == viewer.account_id
    place = viewer.memberships.get(token.workspace_id) if token.workspace_id is not None and not is_own else None
    role = place.role if place is not None else viewer.token_role
    if token.role.rank > role.rank:
        raise Forbidden(f"The token is {token.role}, above your own {role}.", path=("id",))


async def _check_change(app: App, viewer: Viewer, token: ApiToken, change: TokenChange) -> None:
    if change.expires_at is not KEEP:
        _check_end(viewer, change.expires_at, app.clock.now())
    if viewer.token_id != token.id or change.allowed_models is not KEEP:
        _check_reach(viewer, _changed(app, token, change).allowed_models)
    if change.credential_ids is KEEP or change.credential_ids is None:
        return
    if token.workspace_id is None:
        raise InvalidInput("Only a workspace's token lists credentials.", path=("credentialIds",))
    await _check_credentials(app, viewer, token.workspace_id, change.credential_ids)


def _check_personal(viewer: Viewer, new: NewToken) -> None:
    if new.service:
        raise InvalidInput("A service token belongs to a workspace: name it by `workspaceId`.", path=("workspaceId",))
    if viewer.account_id is None or viewer.workspace_id is not None:
        raise Forbidden("Making a personal token needs a personal token; name a `workspaceId` for one of a workspace.")
    if new.role.rank > viewer.token_role.rank:
        raise Forbidden(f"Your token is {viewer.token_role}: it cannot give {new.role}.", path=("role",))
    if new.credential_ids:
        raise InvalidInput("Only a workspace's token lists credentials.", path=("credentialIds",))


def _check_place(viewer: Viewer, new: NewToken, workspace_id: UUID) -> None:
    membership = viewer.memberships.get(workspace_id)
    if membership is None or (not new.service and viewer.account_id is None):
        raise Forbidden("Making a token for a person needs that person's own token.")
    if new.role.rank > membership.role.rank:
        raise Forbidden(f"You are {membership.role} in this workspace: you cannot give {new.role}.", path=("role",))


async def _check_credentials(app: App, viewer: Viewer, workspace_id: UUID, listed: Sequence[UUID] | None) -> None:
    if not listed:
        return
    require(viewer, workspace_id, Permission.CREDENTIAL_READ)
    configuration = await app.configurations.get(workspace_id, viewer.memberships[workspace_id].version)
    for number, credential_id in enumerate(listed):
        if credential_id not in configuration.credentials:
            raise NotFound("There is no such credential in this workspace.", path=("credentialIds", str(number)))


def _canonical(app: App, models: Sequence[ModelKey] | None) -> tuple[ModelKey, ...] | None:
    if models is None:
        return None
    keys = []
    for number, key in enumerate(models):
        provider = app.catalog.canonical(key.provider)
        if provider is None:
            raise InvalidInput(f"There is no provider {key.provider!r}.", path=("allowedModels", str(number)))
        keys.append(ModelKey(provider=provider, name=key.name, type=key.type))
    return tuple(keys)
