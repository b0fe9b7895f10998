"""Who may read what: declared once, on types and fields, and held wherever they are met. Deny by default.

The check runs before the field is resolved where the workspace is known by then (the object that the field is on says it),
else on what was found. What is in none of the tables keeps the schema from being built.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any
from uuid import UUID

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    get_named_type,
)

from core.access import OPERATOR_PERMISSIONS, Permission, Viewer, lacking
from core.tokens import may_see_token
from graph.context import Context
from graph.invocations import may_see_invocation
from graph.tokens import ApiToken
from graph.viewer import may_see_member

P = Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What a viewer may always see of their own; everything else of the type needs `otherwise` in its workspace."""

    otherwise: Permission
    sees: Callable[[Viewer, Any], bool]


@dataclass(frozen=True, slots=True)
class Free:
    """A field that looks after itself, or is harmless; `why` is for the reader."""

    why: str


Rule = Permission | Own | Free

TYPE_PERMISSIONS: Mapping[str, Permission | Own] = {
    "Workspace": P.WORKSPACE_READ,
    "Provider": P.MODEL_READ,
    "Model": P.MODEL_READ,
    "DefaultModel": P.MODEL_READ,
    "Route": P.MODEL_INVOKE,
    "Credential": P.CREDENTIAL_READ,
    "Pool": P.POOL_READ,
    "PoolMember": P.POOL_READ,
    "AuditEntry": P.AUDIT_READ,
    "Invitation": P.MEMBER_MANAGE,
    "Order": P.ORDER_READ,
    "Product": P.WORKSPACE_READ,
    "Quota": P.QUOTA_READ,
    "QuotaEntry": P.QUOTA_READ,
    "Member": Own(
        otherwise=P.MEMBER_READ,
        sees=lambda viewer, one: may_see_member(viewer, one.member),
    ),
    "Account": Own(
        otherwise=P.MEMBER_READ,
        sees=lambda viewer, one: viewer.account_id == one.account.id,
    ),
    "ApiToken": Own(
        otherwise=P.TOKEN_MANAGE,
        sees=lambda viewer, one: may_see_token(viewer, one.token),
    ),
    "Invocation": Own(
        otherwise=P.USAGE_READ,
        sees=lambda viewer, one: may_see_invocation(viewer, one.invocation),
    ),
}
"""What it takes to be given an object of a type, in the workspace that it belongs to."""

FIELD_PERMISSIONS: Mapping[tuple[str, str], Rule] = {
    ("Workspace", "members"): P.MEMBER_READ,
    ("Workspace", "apiTokens"): P.TOKEN_MANAGE,
    ("Workspace", "invocations"): Free("lists only the viewer's own without USAGE_READ"),
    ("Workspace", "usage"): P.USAGE_READ,
    ("Workspace", "credentials"): P.CREDENTIAL_READ,
    ("Workspace", "keyRotation"): P.CREDENTIAL_READ,
    ("Provider", "credentials"): P.CREDENTIAL_READ,
    ("Workspace", "pools"): P.POOL_READ,
    ("Model", "credentials"): P.CREDENTIAL_READ,
    ("Provider", "removedModels"): P.CREDENTIAL_READ,
    ("RemovedModel", "credentials"): P.CREDENTIAL_READ,
    ("Server", "database"): P.SERVER_READ,
    ("Server", "redis"): P.SERVER_READ,
    ("Server", "workers"): P.SERVER_READ,
    ("Account", "memberships"): Free("lists only those that the viewer may see"),
    ("Invocation", "workspace"): Free("whoever sees an invocation is in its workspace"),
    ("Member", "account"): Free("whoever sees a member sees the person"),
    ("ApiToken", "workspace"): P.WORKSPACE_READ,
    ("Viewer", "apiTokens"): Free("lists only the viewer's own"),
    ("Workspace", "auditLog"): P.AUDIT_READ,
    ("Query", "workspaces"): Free("lists only the viewer's workspaces"),
    ("Query", "node"): Free("checks what it finds"),
    ("Query", "nodes"): Free("checks what it finds"),
}
"""Fields that differ from the type that they give."""

OPEN = frozenset(
    {
        "AssistantMessage",
        "Attempt",
        "Budget",
        "ComponentHealth",
        "Cooldown",
        "Cost",
        "CredentialValue",
        "FormCondition",
        "FormField",
        "FormOption",
        "KeyRotation",
        "ModelKey",
        "PageInfo",
        "ParameterRule",
        "Pricing",
        "RemovedModel",
        "RerankHit",
        "RouteCandidate",
        "Server",
        "TokenCount",
        "ToolCall",
        "Usage",
        "UsageBucket",
        "UsageKey",
        "UserError",
        "Viewer",
        "Voice",
        "WorkerHealth",
        # events of the viewer's own call
        "CompletionStarted",
        "CompletionRerouted",
        "TextDelta",
        "ReasoningDelta",
        "ToolCallDelta",
        "CompletionFinished",
        "CompletionFailed",
        "CompletionInterrupted",
        "CompletionEvent",
        # events of what is followed: following has checked
        "CredentialChange",
        "OrderChange",
        "PoolChange",
        "ProviderChange",
        "QuotaChange",
        "SpeechChunk",
        "SpeechFailed",
        "SpeechFinished",
        "SpeechStarted",
        # what mutations answer: the use cases have checked
        "AddMemberPayload",
        "ApiTokenPayload",
        "CompletePayload",
        "CreateApiTokenPayload",
        "CredentialPayload",
        "DefaultModelsPayload",
        "DeleteCredentialPayload",
        "EmbedPayload",
        "DeletedPayload",
        "InvocationPayload",
        "MemberPayload",
        "ModelPayload",
        "OrderPayload",
        "PoolPayload",
        "ProviderPayload",
        "QuotaPayload",
        "RemoveModelPayload",
        "ModeratePayload",
        "RerankPayload",
        "TranscribePayload",
        "WorkspacePayload",
    }
)
"""Types that are reached only by fields that are guarded, and hold nothing of their own to guard."""

ANONYMOUS = frozenset({("Mutation", "acceptInvitation")})
"""Root fields that need no token: what they are given proves who asks."""

ROOTS = frozenset({"Query", "Mutation", "Subscription"})
INSTALLATION = frozenset({P.SERVER_READ})
"""Permissions that are of the installation, not of a workspace."""


class Undeclared(Exception):
    """A type of the schema is in no table."""


def guard(schema: GraphQLSchema) -> None:
    """Wrap the resolver of every field that needs a permission, and say so in its description.

    Raises:
        Undeclared: a type is in no table, or a table names what is not there.
    """
    connections = _connections(schema)
    _check_tables(schema, connections)
    for type_name, object_type in _object_types(schema):
        if type_name in connections:
            continue
        for name, field in object_type.fields.items():
            rule = _rule(type_name, name, field, connections)
            if type_name in ROOTS and (type_name, name) not in ANONYMOUS:
                _authenticate(field)
            if rule is not None and not isinstance(rule, Free):
                _wrap(field, rule)
                _describe(field, rule)
    _describe_types(schema)


def exists_for(viewer: Viewer, value: object) -> bool:
    """Tell whether an object is of one of the viewer's workspaces, or of none."""
    if isinstance(value, ApiToken) and value.token.workspace_id is None:
        return may_see_token(viewer, value.token)
    workspace_id = getattr(value, "workspace_id", None)
    return workspace_id is None or viewer.sees(workspace_id)


def check_node(viewer: Viewer, value: object) -> None:
    """Let the viewer see an object of one of their workspaces.

    Raises:
        Forbidden: their role does not allow it.
    """
    _check_value(viewer, TYPE_PERMISSIONS[type(value).__name__], value, None)


def _rule(type_name: str, name: str, field: GraphQLField, connections: Mapping[str, str]) -> Rule | None:
    declared = FIELD_PERMISSIONS.get((type_name, name))
    if declared is not None:
        return declared
    given = get_named_type(field.type).name
    return TYPE_PERMISSIONS.get(connections.get(given, given))


def _authenticate(field: GraphQLField) -> None:
    """Let nobody without a token into a root field."""
    if field.subscribe is not None:
        subscribe = field.subscribe

        def subscribed(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
            _ = info.context.who
            return subscribe(source, info, **arguments)

        field.subscribe = subscribed
        return
    resolve = field.resolve
    assert resolve is not None

    def authenticated(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        _ = info.context.who
        return resolve(source, info, **arguments)

    field.resolve = authenticated


def _wrap(field: GraphQLField, rule: Permission | Own) -> None:
    resolve = field.resolve
    assert resolve is not None
    field.extensions = {**field.extensions, "guarded": True}

    def guarded(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        context, workspace_id = info.context, getattr(source, "workspace_id", None)
        is_checked = isinstance(rule, Permission) and (workspace_id is not None or rule in INSTALLATION)
        if is_checked:
            _check(context.who, rule, workspace_id)  # type: ignore[arg-type]
        found = resolve(source, info, **arguments)
        if is_checked:
            return found
        if isawaitable(found):
            return _after(context, rule, found, workspace_id)
        return _checked(context, rule, found, workspace_id)

    field.resolve = guarded


async def _after(context: Context, rule: Permission | Own, found: Awaitable[Any], workspace_id: UUID | None) -> Any:
    return _checked(context, rule, await found, workspace_id)


def _checked(context: Context, rule: Permission | Own, found: Any, workspace_id: UUID | None) -> Any:
    for value in found if isinstance(found, list) else (found,):
        if value is not None:
            _check_value(context.who, rule, value, workspace_id)
    return found


def _check_value(viewer: Viewer, rule: Permission | Own, value: Any, workspace_id: UUID | None) -> None:
    if isinstance(rule, Own):
        if rule.sees(viewer, value):
            return
        rule = rule.otherwise
    _check(viewer, rule, getattr(value, "workspace_id", None) or workspace_id)


def _check(viewer: Viewer, permission: Permission, workspace_id: UUID | None) -> None:
    if permission in INSTALLATION:
        allowed = viewer.is_operator and permission in OPERATOR_PERMISSIONS
    else:
        allowed = workspace_id is not None and viewer.can(workspace_id, permission)
    if not allowed:
        raise lacking(permission)


# ---- what the schema says of it


def _describe(field: GraphQLField, rule: Permission | Own) -> None:
    said = _said(rule)
    if said not in (field.description or ""):
        if not isinstance(field.type, GraphQLNonNull):
            said += ", else null"
        field.description = f"{field.description} {said}." if field.description else f"{said}."


def _describe_types(schema: GraphQLSchema) -> None:
    for name, rule in TYPE_PERMISSIONS.items():
        object_type = schema.type_map[name]
        object_type.description = f"{object_type.description} {_said(rule)}."


def _said(rule: Permission | Own) -> str:
    return f"Of others, needs {rule.otherwise}" if isinstance(rule, Own) else f"Needs {rule}"


# ---- deny by default


def _object_types(schema: GraphQLSchema) -> Iterable[tuple[str, GraphQLObjectType]]:
    for name, kind in schema.type_map.items():
        if isinstance(kind, GraphQLObjectType) and not name.startswith("__"):
            yield name, kind


def _connections(schema: GraphQLSchema) -> Mapping[str, str]:
    """Return what each connection and edge is of: connections by their nodes, edges by their node."""
    found = {}
    for name, kind in _object_types(schema):
        inner = kind.fields.get("nodes" if name.endswith("Connection") else "node")
        if name.endswith(("Connection", "Edge")) and inner is not None:
            found[name] = get_named_type(inner.type).name
    return found


def _check_tables(schema: GraphQLSchema, connections: Mapping[str, str]) -> None:
    for name, kind in schema.type_map.items():
        if name.startswith("__") or not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            continue
        guarded = connections.get(name, name)
        if guarded not in TYPE_PERMISSIONS and guarded not in OPEN and guarded not in ROOTS | {"Node"}:
            raise Undeclared(f"The type {name} is in none of the tables of permissions.")
    for type_name, field_name in FIELD_PERMISSIONS:
        named = schema.type_map.get(type_name)
        if not isinstance(named, GraphQLObjectType) or field_name not in named.fields:
            raise Undeclared(f"The tables of permissions name {type_name}.{field_name}, which is not there.")
    for name in (*TYPE_PERMISSIONS, *OPEN):
        if name not in schema.type_map:
            raise Undeclared(f"The tables of permissions name {name}, which is not there.")
