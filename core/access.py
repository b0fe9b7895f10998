"""Who asks, and what their role allows: deny by default."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from core.errors import Forbidden, InvalidInput, NotFound
from core.model_types import ModelKey


class Role(StrEnum):
    """What a member is in a workspace."""

    OWNER = "OWNER"
    ADMIN = "ADMIN"
    EDITOR = "EDITOR"
    MEMBER = "MEMBER"

    @property
    def rank(self) -> int:
        """Return how much the role may: a higher number includes the lower ones."""
        return _RANKS[self]


_RANKS = {Role.MEMBER: 0, Role.EDITOR: 1, Role.ADMIN: 2, Role.OWNER: 3}


def lower(one: Role, other: Role) -> Role:
    """Return the role that may less."""
    return min(one, other, key=lambda role: role.rank)


class Permission(StrEnum):
    """What can be allowed."""

    WORKSPACE_READ = "WORKSPACE_READ"
    WORKSPACE_MANAGE = "WORKSPACE_MANAGE"
    WORKSPACE_DELETE = "WORKSPACE_DELETE"
    OWNER_MANAGE = "OWNER_MANAGE"
    MEMBER_READ = "MEMBER_READ"
    MEMBER_MANAGE = "MEMBER_MANAGE"
    TOKEN_MANAGE = "TOKEN_MANAGE"
    CREDENTIAL_READ = "CREDENTIAL_READ"
    CREDENTIAL_MANAGE = "CREDENTIAL_MANAGE"
    PROVIDER_MANAGE = "PROVIDER_MANAGE"
    MODEL_READ = "MODEL_READ"
    MODEL_MANAGE = "MODEL_MANAGE"
    MODEL_INVOKE = "MODEL_INVOKE"
    DEFAULT_MANAGE = "DEFAULT_MANAGE"
    POOL_READ = "POOL_READ"
    POOL_MANAGE = "POOL_MANAGE"
    QUOTA_READ = "QUOTA_READ"
    QUOTA_MANAGE = "QUOTA_MANAGE"
    ORDER_READ = "ORDER_READ"
    ORDER_MANAGE = "ORDER_MANAGE"
    ORDER_REFUND = "ORDER_REFUND"
    USAGE_READ = "USAGE_READ"
    AUDIT_READ = "AUDIT_READ"
    SERVER_READ = "SERVER_READ"


P = Permission
_MEMBER = frozenset({P.WORKSPACE_READ, P.MODEL_READ, P.MODEL_INVOKE})
_EDITOR = _MEMBER | {P.QUOTA_READ, P.USAGE_READ, P.MEMBER_READ}
_ADMIN = _EDITOR | {
    P.WORKSPACE_MANAGE,
    P.MEMBER_MANAGE,
    P.TOKEN_MANAGE,
    P.CREDENTIAL_READ,
    P.CREDENTIAL_MANAGE,
    P.PROVIDER_MANAGE,
    P.MODEL_MANAGE,
    P.POOL_READ,
    P.POOL_MANAGE,
    P.DEFAULT_MANAGE,
    P.ORDER_READ,
    P.ORDER_MANAGE,
    P.AUDIT_READ,
}
_OWNER = _ADMIN | {P.WORKSPACE_DELETE, P.OWNER_MANAGE}

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(_OWNER),
    Role.ADMIN: frozenset(_ADMIN),
    Role.EDITOR: frozenset(_EDITOR),
    Role.MEMBER: _MEMBER,
}
"""What a member of each role may do in the workspace."""

OPERATOR_PERMISSIONS = frozenset(
    {P.ORDER_READ, P.QUOTA_READ, P.WORKSPACE_READ, P.QUOTA_MANAGE, P.ORDER_REFUND, P.SERVER_READ}
)
"""What an operator may do in every workspace, and on the installation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What the viewer is in one workspace now. `version` is that of the workspace's configuration when it was read."""

    workspace_id: UUID
    role: Role
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a token's calls may cost and how many there may be: its budget with the currency, and calls a minute."""

    budget_id: UUID | None = None
    currency: str | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who asks, as of one read: a token, the account it stands for (None for a service token), and its power.

    `memberships` are already lowered to the token's role and limited to the token's workspace. `is_operator` is true
    only for an operator's personal token. `workspace_id` is the token's own workspace, None for a personal token.
    `allowance` None: the token's calls are not limited.
    """

    token_id: UUID
    account_id: UUID | None
    is_operator: bool
    workspace_id: UUID | None
    token_role: Role
    memberships: Mapping[UUID, Membership]
    allowed_models: frozenset[ModelKey] | None = None
    pinnable_credentials: frozenset[UUID] = field(default_factory=frozenset)
    expires_at: datetime | None = None
    allowance: Allowance | None = None

    @property
    def principal(self) -> UUID:
        """Return what an invocation belongs to: the account, else the service token."""
        return self.account_id or self.token_id

    def permissions(self, workspace_id: UUID) -> frozenset[Permission]:
        """Return what the viewer may do in a workspace; nothing where they are a stranger."""
        membership = self.memberships.get(workspace_id)
        granted = ROLE_PERMISSIONS[membership.role] if membership else frozenset()
        return granted | OPERATOR_PERMISSIONS if self.is_operator else granted

    def can(self, workspace_id: UUID, permission: Permission) -> bool:
        """Tell whether the viewer may do this in the workspace."""
        return permission in self.permissions(workspace_id)

    def sees(self, workspace_id: UUID) -> bool:
        """Tell whether the workspace exists for the viewer at all."""
        return self.is_operator or workspace_id in self.memberships


def require(viewer: Viewer, workspace_id: UUID, permission: Permission) -> None:
    """Let the viewer pass, or refuse.

    Raises:
        NotFound: the workspace is not one of theirs, or not there.
        Forbidden: it is, and their role does not allow this.
    """
    if not viewer.sees(workspace_id):
        raise NotFound("There is no such workspace, or it is not one of yours.")
    if not viewer.can(workspace_id, permission):
        raise lacking(permission)


def lacking(permission: Permission) -> Forbidden:
    """Return the refusal of a viewer who lacks a permission; it says who has it."""
    roles = [role for role in Role if permission in ROLE_PERMISSIONS[role]]
    by_role = f"a token and a role of {' or '.join(roles)} in the workspace" if roles else ""
    by_operator = "an operator's personal token" if permission in OPERATOR_PERMISSIONS else ""
    return Forbidden(f"This needs the permission {permission}: {', or '.join(filter(None, (by_role, by_operator)))}.")


def require_unlimited(viewer: Viewer, what: str) -> None:
    """Let a viewer pass whose token has neither a budget nor limits a minute: with such a one nobody gets beyond it.

    Raises:
        Forbidden: it has.
    """
    if viewer.allowance is not None:
        raise Forbidden(f"Your token has a budget or limits a minute: {what} with one that has none.")


def require_all_models(viewer: Viewer, what: str) -> None:
    """Let a viewer pass whose token may call every model: who gets a token by such a one may call every model, too.

    Raises:
        Forbidden: it may call some.
    """
    if viewer.allowed_models is not None:
        raise Forbidden(f"Your token is limited to some models: {what} with one that is not.")


def workspace_of(viewer: Viewer, workspace_id: UUID | None, field_name: str = "workspaceId") -> UUID:
    """Return the workspace that an input means: the one it names, else the token's, else the account's only one.

    `field_name` is where it is named.

    Raises:
        InvalidInput: none is named and the account belongs to none or to several.
    """
    if workspace_id is not None:
        return workspace_id
    if viewer.workspace_id is not None:
        return viewer.workspace_id
    if len(viewer.memberships) == 1:
        return next(iter(viewer.memberships))
    several = f"several workspaces: name one by `{field_name}`"
    none = f"no workspace: make one with `createWorkspace`, or name one by `{field_name}`"
    raise InvalidInput(f"Your account belongs to {several if viewer.memberships else none}.", path=(field_name,))
