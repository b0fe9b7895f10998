"""Members: the people of a workspace."""

from datetime import datetime
from uuid import UUID

import strawberry

from core import entities
from graph import ids, links
from graph.access import Role
from graph.connections import Connection, Page, row_page, rows_of
from graph.context import Context, Info
from graph.links import AccountLink, WorkspaceLink
from graph.types import Node, object_type, resolved


@object_type
class Member(Node):
    """A person's place in a workspace."""

    member: strawberry.Private[entities.Member]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace."""
        return self.member.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The membership's id."""
        return ids.encode("Member", self.member.id)

    @resolved
    async def account(self, info: Info) -> AccountLink:
        """The person."""
        return await links.present_account(info.context, self.member.account_id)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace."""
        return await links.present_workspace(info.context, self.member.workspace_id)

    @resolved
    def role(self) -> Role:
        """What the person may do there."""
        return self.member.role

    @resolved
    def created_at(self) -> datetime:
        """When the person joined."""
        return self.member.created_at


async def member_page(context: Context, workspace_id: UUID, page: Page, role: Role | None) -> Connection[Member]:
    """Return a page of the workspace's members, oldest first."""
    async with context.app.storage.read() as tx:
        found = await tx.members.page(workspace_id, rows_of(page), role=role.value if role is not None else None)
    return row_page(found, lambda one: Member(member=one), lambda one: one.id)
