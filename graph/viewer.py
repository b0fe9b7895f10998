"""People, and who is asking."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from core import access, entities
from graph import ids, links
from graph.connections import After, Before, Connection, First, Last, page_of
from graph.context import Info
from graph.links import ApiTokenLink, MemberLink, WorkspaceLink
from graph.tokens import ApiToken, own_token_page
from graph.types import Node, argument, object_type, resolved


@object_type
class Account(Node):
    """A person."""

    account: strawberry.Private[entities.Account]
    workspace_id: strawberry.Private[UUID | None] = None
    """A workspace that the viewer shares with the person, where that is how they were found."""

    @resolved
    def id(self) -> strawberry.ID:
        """The account's id."""
        return ids.encode("Account", self.account.id)

    @resolved
    def name(self) -> str:
        """The person's name."""
        return self.account.name

    @resolved
    def email(self) -> str:
        """The person's e-mail address."""
        return self.account.email

    @resolved
    def is_operator(self) -> bool:
        """Whether the person runs this installation."""
        return self.account.is_operator

    @resolved
    def created_at(self) -> datetime:
        """When the account was made."""
        return self.account.created_at

    @resolved
    async def memberships(self, info: Info) -> list[MemberLink] | None:
        """The workspaces that the person belongs to; of others, only those where you may see the members."""
        found = await info.context.load.memberships(self.account.id)
        return [links.member(one) for one in found if may_see_member(info.context.who, one)]


def may_see_member(viewer: access.Viewer, member: entities.Member) -> bool:
    """Tell whether a membership is the viewer's own, or one of a workspace whose members they may see."""
    own = viewer.account_id == member.account_id and viewer.sees(member.workspace_id)
    return own or viewer.can(member.workspace_id, access.Permission.MEMBER_READ)


@object_type
class Viewer:
    """Who is asking. A workspace's token may stand for no person."""

    viewer: strawberry.Private[access.Viewer]

    @resolved
    async def account(self, info: Info) -> Account | None:
        """The person; null for a service token."""
        return await links.account(info.context, self.viewer.account_id)

    @resolved
    async def token(self, info: Info) -> ApiTokenLink:
        """The token that is used."""
        return await links.present_token(info.context, self.viewer.token_id)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink | None:
        """The token's workspace; null for a personal token."""
        workspace_id = self.viewer.workspace_id
        return await links.workspace(info.context, workspace_id) if workspace_id is not None else None

    @resolved
    async def api_tokens(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        include_revoked: Annotated[bool | None, argument("Whether revoked ones are listed.")] = False,  # noqa: FBT002 - an argument of the schema
    ) -> Connection[ApiToken] | None:
        """The tokens that stand for your account, newest first; for a workspace's token, those of that workspace."""
        page = page_of(first, after, last, before)
        return await own_token_page(info.context, page, include_revoked=bool(include_revoked))

    @resolved
    def is_operator(self) -> bool:
        """Whether the token has the power of an operator of this installation."""
        return self.viewer.is_operator


@strawberry.type(name="Query")
class ViewerQuery:
    """Who is asking."""

    @resolved
    def viewer(self, info: Info) -> Viewer:
        """Who is asking."""
        return Viewer(viewer=info.context.who)
