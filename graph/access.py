"""Roles and permissions as enums of the schema."""

from core.access import Permission, Role
from graph.types import described

described(
    Role,
    "What a member is in a workspace. Each role includes what the lower ones may.",
    OWNER="Everything, deleting the workspace and making owners included.",
    ADMIN="Members, tokens, credentials, models, pools and defaults.",
    EDITOR="Calls, and reading usage, quotas and members.",
    MEMBER="Calls, and reading providers and models.",
)

described(
    Permission,
    "What can be allowed, by a role in a workspace or to an operator of the installation.",
    WORKSPACE_READ="See the workspace. Every role; operators.",
    WORKSPACE_MANAGE="Rename the workspace and rotate its key. OWNER, ADMIN.",
    WORKSPACE_DELETE="Delete the workspace. OWNER.",
    OWNER_MANAGE="Make, demote and remove owners. OWNER.",
    MEMBER_READ="See the members. OWNER, ADMIN, EDITOR.",
    MEMBER_MANAGE="Add, change and remove members. OWNER, ADMIN.",
    TOKEN_MANAGE="See and revoke the tokens of others, and make service tokens. OWNER, ADMIN.",
    CREDENTIAL_READ="See credentials: names, masked values and status. OWNER, ADMIN.",
    CREDENTIAL_MANAGE="Create, activate and delete credentials. OWNER, ADMIN.",
    PROVIDER_MANAGE="Choose whose credentials a provider prefers. OWNER, ADMIN.",
    MODEL_READ="See providers, models and defaults. Every role.",
    MODEL_MANAGE="Add models, and switch them on and off. OWNER, ADMIN.",
    MODEL_INVOKE="Call models. Every role.",
    DEFAULT_MANAGE="Set the default models. OWNER, ADMIN.",
    POOL_READ="See pools. OWNER, ADMIN.",
    POOL_MANAGE="Change pools. OWNER, ADMIN.",
    QUOTA_READ="See quotas. OWNER, ADMIN, EDITOR; operators.",
    QUOTA_MANAGE="Grant and adjust quotas. Operators.",
    ORDER_READ="See orders. OWNER, ADMIN; operators.",
    ORDER_MANAGE="Make and cancel orders. OWNER, ADMIN.",
    ORDER_REFUND="Mark orders paid and refund them. Operators.",
    USAGE_READ="See the calls of everybody and what they cost. OWNER, ADMIN, EDITOR.",
    AUDIT_READ="See who changed what. OWNER, ADMIN.",
    SERVER_READ="See the health of the installation. Operators.",
)

__all__ = ["Permission", "Role"]
