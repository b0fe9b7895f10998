"""Links between the types of different nouns: as types and as views, both found when they are used.

Nouns refer to each other in circles (a credential has a provider, a provider has credentials). They meet here, so that no
module of a noun imports one that imports it.
"""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from core import entities
from core.configuration import Configuration
from core.errors import NotFound
from core.provider import Manifest
from core.resolve import Known

if TYPE_CHECKING:
    from graph.audit import AuditEntry
    from graph.context import Context
    from graph.credentials import Credential
    from graph.invocations import Invocation
    from graph.members import Invitation, Member
    from graph.models import Model
    from graph.orders import Order
    from graph.pools import Pool, PoolMember
    from graph.products import Product
    from graph.providers import Provider
    from graph.quotas import Quota, QuotaEntry
    from graph.tokens import ApiToken
    from graph.viewer import Account
    from graph.workspaces import Workspace

AccountLink = Annotated["Account", strawberry.lazy("graph.viewer")]
ApiTokenLink = Annotated["ApiToken", strawberry.lazy("graph.tokens")]
CredentialLink = Annotated["Credential", strawberry.lazy("graph.credentials")]
InvocationLink = Annotated["Invocation", strawberry.lazy("graph.invocations")]
MemberLink = Annotated["Member", strawberry.lazy("graph.members")]
ModelLink = Annotated["Model", strawberry.lazy("graph.models")]
OrderLink = Annotated["Order", strawberry.lazy("graph.orders")]
PoolLink = Annotated["Pool", strawberry.lazy("graph.pools")]
PoolMemberLink = Annotated["PoolMember", strawberry.lazy("graph.pools")]
ProviderLink = Annotated["Provider", strawberry.lazy("graph.providers")]
QuotaLink = Annotated["Quota", strawberry.lazy("graph.quotas")]
QuotaEntryLink = Annotated["QuotaEntry", strawberry.lazy("graph.quotas")]
WorkspaceLink = Annotated["Workspace", strawberry.lazy("graph.workspaces")]


async def account(context: "Context", account_id: UUID | None, workspace_id: UUID | None = None) -> "Account | None":
    """Return the view of a person, found in a workspace that the viewer shares with them."""
    from graph.viewer import Account

    found = await context.load.account(account_id) if account_id is not None else None
    return Account(account=found, workspace_id=workspace_id) if found is not None else None


async def api_token(context: "Context", token_id: UUID) -> "ApiToken | None":
    """Return the view of a token."""
    from graph.tokens import ApiToken

    found = await context.load.token(token_id)
    return ApiToken(token=found) if found is not None else None


async def workspace(context: "Context", workspace_id: UUID) -> "Workspace | None":
    """Return the view of a workspace."""
    from graph.workspaces import Workspace

    found = await context.load.workspace(workspace_id)
    return Workspace(workspace=found) if found is not None else None


async def invocation(context: "Context", invocation_id: UUID) -> "Invocation | None":
    """Return the view of an invocation of one of the viewer's workspaces."""
    from graph.invocations import Invocation

    found = await context.load.invocation(invocation_id)
    return Invocation(invocation=found) if found is not None else None


async def order(context: "Context", order_id: UUID) -> "Order | None":
    """Return the view of an order, whoever asks."""
    from graph.orders import Order

    found = await context.load.order(order_id)
    return Order(order=found) if found is not None else None


async def product(context: "Context", product_id: UUID, workspace_id: UUID) -> "Product | None":
    """Return the view of a product as a workspace may order it."""
    from graph.products import Product

    found = await context.load.product(product_id)
    return Product(product=found, workspace_id=workspace_id) if found is not None else None


def audit_entry(of: entities.AuditEntry) -> "AuditEntry":
    """Return the view of a change."""
    from graph.audit import AuditEntry

    return AuditEntry(entry=of)


def invited(of: entities.Invitation) -> "Invitation":
    """Return the view of an invitation."""
    from graph.members import Invitation

    return Invitation(invitation=of)


def member(of: entities.Member) -> "Member":
    """Return the view of a membership."""
    from graph.members import Member

    return Member(member=of)


def credential(configuration: Configuration, of: entities.Credential) -> "Credential":
    """Return the view of a credential."""
    from graph.credentials import Credential

    return Credential(configuration=configuration, credential=of)


def optional_credential(configuration: Configuration, of: entities.Credential | None) -> "Credential | None":
    """Return the view of a credential that may not be there."""
    return credential(configuration, of) if of is not None else None


def pool(context: "Context", configuration: Configuration, of: entities.Pool | None) -> "Pool | None":
    """Return the view of a pool that may not be there."""
    from graph.pools import pool_view

    return pool_view(context, configuration, of)


def pool_member(context: "Context", configuration: Configuration, member_id: UUID) -> "PoolMember | None":
    """Return the view of a pool's member that may not be there."""
    from graph.pools import member_view

    return member_view(context, configuration, member_id)


def pool_members(context: "Context", configuration: Configuration, credential_id: UUID) -> "list[PoolMember]":
    """Return the views of a credential's places in pools."""
    from graph.pools import members_of_credential

    return members_of_credential(context, configuration, credential_id)


def model(configuration: Configuration, of: Known) -> "Model":
    """Return the view of a model."""
    from graph.models import Model

    return Model(configuration=configuration, known=of)


def provider(configuration: Configuration, of: Manifest) -> "Provider":
    """Return the view of a provider."""
    from graph.providers import Provider

    return Provider(configuration=configuration, manifest=of)


def quota(of: entities.Quota) -> "Quota":
    """Return the view of a quota."""
    from graph.quotas import Quota

    return Quota(quota=of)


def quota_entry(of: entities.QuotaEntry) -> "QuotaEntry":
    """Return the view of a change of a quota."""
    from graph.quotas import QuotaEntry

    return QuotaEntry(entry=of)


async def present_workspace(context: "Context", workspace_id: UUID) -> "Workspace":
    """Return the view of the workspace that an object at hand belongs to.

    Raises:
        NotFound: it was deleted in this moment.
    """
    found = await workspace(context, workspace_id)
    if found is None:
        raise NotFound("The workspace is gone.")
    return found


async def present_account(context: "Context", account_id: UUID) -> "Account":
    """Return the view of a person that an object at hand belongs to.

    Raises:
        NotFound: the account was deleted in this moment.
    """
    found = await account(context, account_id)
    if found is None:
        raise NotFound("The account is gone.")
    return found


async def present_token(context: "Context", token_id: UUID) -> "ApiToken":
    """Return the view of the token that is used.

    Raises:
        NotFound: it was deleted in this moment.
    """
    found = await api_token(context, token_id)
    if found is None:
        raise NotFound("The token is gone.")
    return found
