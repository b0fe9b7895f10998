"""Use cases of bearer tokens: make one, revoke one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core.access import Permission, Role, Viewer, require
from core.app import App
from core.entities import ApiToken
from core.errors import Forbidden, InvalidInput, NotFound
from core.ids import uuid7
from core.model_types import ModelKey
from core.secret import SHOWN, Secret, hash_secret, new_secret

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
    expires_at: datetime | None = None


async def create_token(app: App, viewer: Viewer, new: NewToken) -> tuple[ApiToken, Secret]:
    """Make a token and return it with its secret, which is not to be had again.

    Raises:
        Forbidden: the role is above the maker's own, or the maker may not make such a token.
        InvalidInput: a name, time, model or credential is not in order.
    """
    now = app.clock.now()
    _check(new, now)
    _check_reach(app, viewer, new)
    if new.workspace_id is None:
        _check_personal(viewer, new)
    else:
        require(viewer, new.workspace_id, Permission.WORKSPACE_READ if not new.service else Permission.TOKEN_MANAGE)
        await _check_workspace(app, viewer, new, new.workspace_id)
    secret = new_secret()
    token = ApiToken(
        id=uuid7(),
        name=new.name.strip(),
        prefix=secret.reveal()[:SHOWN],
        role=new.role,
        workspace_id=new.workspace_id,
        account_id=None if new.service else viewer.account_id,
        allowed_models=_canonical(app, new.allowed_models),
        credential_ids=new.credential_ids,
        expires_at=new.expires_at,
        last_used_at=None,
        revoked_at=None,
        created_at=now,
        created_by=viewer.account_id,
    )
    async with app.storage.transaction() as tx:
        await tx.tokens.insert(token, hash_secret(secret.reveal()))
        await tx.audit.add(
            workspace_id=new.workspace_id,
            viewer=viewer,
            action="token.create",
            subject=f"ApiToken:{token.id}",
            summary=f"Created the token {token.name!r} ({token.role})",
        )
    return token, secret


async def revoke_token(app: App, viewer: Viewer, token_id: UUID) -> ApiToken:
    """Revoke a token: one's own, or with TOKEN_MANAGE one of the workspace. It stops at once.

    Raises:
        NotFound: there is no such token that the viewer may revoke.
    """
    async with app.storage.transaction() as tx:
        token = await tx.tokens.get(token_id)
        if token is None or not may_see_token(viewer, token):
            raise NotFound("There is no such token that you may revoke.", path=("id",))
        await tx.tokens.revoke(token_id, app.clock.now())
        await tx.audit.add(
            workspace_id=token.workspace_id,
            viewer=viewer,
            action="token.revoke",
            subject=f"ApiToken:{token.id}",
            summary=f"Revoked the token {token.name!r}",
        )
        revoked = await tx.tokens.get(token_id)
    assert revoked is not None
    return revoked


def may_see_token(viewer: Viewer, token: ApiToken) -> bool:
    """Tell whether a token is the viewer's own, or one of a workspace whose tokens they manage."""
    if token.id == viewer.token_id:
        return True
    if token.workspace_id is None:
        return token.account_id is not None and token.account_id == viewer.account_id and viewer.workspace_id is None
    mine = token.account_id is not None and token.account_id == viewer.account_id
    return (mine and viewer.sees(token.workspace_id)) or viewer.can(token.workspace_id, Permission.TOKEN_MANAGE)


def _check(new: NewToken, now: datetime) -> None:
    if not new.name.strip() or len(new.name.strip()) > MAX_NAME:
        raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=("name",))
    if new.expires_at is not None and new.expires_at <= now:
        raise InvalidInput("The time of expiry is over already.", path=("expiresAt",))


def _check_reach(app: App, viewer: Viewer, new: NewToken) -> None:
    """A token that is limited to some models gives none that reaches further."""
    if viewer.allowed_models is None:
        return
    models = _canonical(app, new.allowed_models)
    if models is None or not set(models) <= viewer.allowed_models:
        raise Forbidden("Your token is limited to some models: it cannot give more.", path=("allowedModels",))


def _check_personal(viewer: Viewer, new: NewToken) -> None:
    if new.service:
        raise InvalidInput("A service token belongs to a workspace: name it by `workspaceId`.", path=("workspaceId",))
    if viewer.account_id is None or viewer.workspace_id is not None:
        raise Forbidden("Making a personal token needs a personal token; name a `workspaceId` for one of a workspace.")
    if new.role.rank > viewer.token_role.rank:
        raise Forbidden(f"Your token is {viewer.token_role}: it cannot give {new.role}.", path=("role",))
    if new.credential_ids:
        raise InvalidInput("Only a workspace's token lists credentials.", path=("credentialIds",))


async def _check_workspace(app: App, viewer: Viewer, new: NewToken, workspace_id: UUID) -> None:
    membership = viewer.memberships.get(workspace_id)
    if membership is None or (not new.service and viewer.account_id is None):
        raise Forbidden("Making a token for a person needs that person's own token.")
    if new.role.rank > membership.role.rank:
        raise Forbidden(f"You are {membership.role} in this workspace: you cannot give {new.role}.", path=("role",))
    if new.credential_ids:
        require(viewer, workspace_id, Permission.CREDENTIAL_READ)
        configuration = await app.configurations.get(workspace_id, membership.version)
        if not set(new.credential_ids) <= set(configuration.credentials):
            raise NotFound("One of the credentials is not of this workspace.", path=("credentialIds",))


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
