"""Members: the people of a workspace."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from core import entities
from core.access import workspace_of
from core.members import (
    Acceptance,
    NewMember,
    accept_invitation,
    add_member,
    remove_member,
    revoke_invitation,
    update_member,
)
from graph import ids, links
from graph.access import Role
from graph.connections import Connection, Page, row_page, rows_of
from graph.context import Context, Info
from graph.links import AccountLink, WorkspaceLink
from graph.mutations import ERRORS, INPUT, DeletedPayload, mutation
from graph.problems import UserError
from graph.tokens import ApiToken, CreateApiTokenPayload
from graph.types import Node, attribute, input_type, object_type, resolved


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


@object_type
class Invitation(Node):
    """A place in a workspace that waits for a person to accept it. Its secret is shown once, by `addMember`."""

    invitation: strawberry.Private[entities.Invitation]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace."""
        return self.invitation.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The invitation's id."""
        return ids.encode("Invitation", self.invitation.id)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace to join."""
        return await links.present_workspace(info.context, self.invitation.workspace_id)

    @resolved
    def email(self) -> str:
        """The e-mail address of who is invited."""
        return self.invitation.email

    @resolved
    def name(self) -> str | None:
        """What the person is called, where the invitation says it; null elsewhere."""
        return self.invitation.name

    @resolved
    def role(self) -> Role:
        """What the person is to be."""
        return self.invitation.role

    @resolved
    async def invited_by(self, info: Info) -> AccountLink | None:
        """Who invited the person; null where a service token did."""
        return await links.account(info.context, self.invitation.invited_by, self.invitation.workspace_id)

    @resolved
    def expires_at(self) -> datetime:
        """When it ends, unless it is accepted before."""
        return self.invitation.expires_at

    @resolved
    def created_at(self) -> datetime:
        """When it was made."""
        return self.invitation.created_at


async def invitation_page(context: Context, workspace_id: UUID, page: Page) -> Connection[Invitation]:
    """Return a page of the invitations that wait, newest first."""
    async with context.app.storage.read() as tx:
        found = await tx.invitations.page(workspace_id, rows_of(page))
    return row_page(found, lambda one: Invitation(invitation=one), lambda one: one.id)


# ---- mutations


@input_type
class AddMemberInput:
    """Whom to invite."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace to join; left out, the token's, or the only one that your account belongs to.", default=None
    )
    email: str = attribute("The person's e-mail address.")
    name: str | None = attribute("What the person is called until they say otherwise.", default=None)
    role: Role = attribute("What the person may do there; not above your own.")


@input_type
class AcceptInvitationInput:
    """An invitation, and who takes it."""

    invitation: str = attribute("The one-time secret that `addMember` gave.")
    name: str | None = attribute("What you are called, for a new account.", default=None)
    token_name: str | None = attribute("What your token is for, 1 to 64 characters.", default=None)


@input_type
class UpdateMemberInput:
    """What is to change of a member."""

    id: strawberry.ID = attribute("The membership's id.")
    role: Role = attribute("What the person is to be; not above your own.")


@input_type
class RemoveMemberInput:
    """Who is to leave."""

    id: strawberry.ID = attribute("The membership's id; your own to leave.")


@input_type
class RevokeInvitationInput:
    """Which invitation is to end."""

    id: strawberry.ID = attribute("The invitation's id, as `Workspace.invitations` gives it.")


@object_type
class MemberPayload:
    """What came of a change of a member."""

    member: Member | None = attribute("The member as they are now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@object_type
class AddMemberPayload:
    """What came of an invitation."""

    member: Member | None = attribute("The member; null until the person has accepted.", default=None)
    invitation: str | None = attribute(
        "A one-time secret for the person to accept with, within 7 days, shown this once; null when it failed.",
        default=None,
    )
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class MemberMutations:
    """Changes of members."""

    @mutation(AddMemberPayload)
    async def add_member(self, info: Info, input: Annotated[AddMemberInput, INPUT]) -> AddMemberPayload:
        """Invites a person, who is a member when they accept. Needs MEMBER_MANAGE, for an OWNER also OWNER_MANAGE.

        A newer invitation of the same address ends the one before.
        """
        viewer, given = info.context.who, ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",))
        new = NewMember(workspace_id=workspace_of(viewer, given), email=input.email, name=input.name, role=input.role)
        invitation = await add_member(info.context.app, viewer, new)
        return AddMemberPayload(invitation=invitation.reveal(), errors=[])

    @mutation(DeletedPayload)
    async def revoke_invitation(self, info: Info, input: Annotated[RevokeInvitationInput, INPUT]) -> DeletedPayload:
        """Takes an invitation back that nobody has accepted. Needs MEMBER_MANAGE, of an OWNER also OWNER_MANAGE."""
        await revoke_invitation(info.context.app, info.context.who, ids.given_uuid(input.id, "Invitation"))
        return DeletedPayload(deleted_id=input.id, errors=[])

    @mutation(CreateApiTokenPayload)
    async def accept_invitation(
        self, info: Info, input: Annotated[AcceptInvitationInput, INPUT]
    ) -> CreateApiTokenPayload:
        """Joins a workspace by an invitation, and gives you a personal token. Needs no token.

        Who has no account of the invitation's address gets one; who has one sends a personal token of it along.
        """
        given = Acceptance(invitation=input.invitation, name=input.name, token_name=input.token_name)
        token, secret = await accept_invitation(info.context.app, info.context.viewer, given)
        await info.context.look_again(token.id)
        return CreateApiTokenPayload(api_token=ApiToken(token=token), secret=secret.reveal(), errors=[])

    @mutation(MemberPayload)
    async def update_member(self, info: Info, input: Annotated[UpdateMemberInput, INPUT]) -> MemberPayload:
        """Gives a member another role. Needs MEMBER_MANAGE, where an OWNER is made or demoted also OWNER_MANAGE."""
        member_id = ids.given_uuid(input.id, "Member")
        changed = await update_member(info.context.app, info.context.who, member_id, input.role)
        await info.context.look_again()
        return MemberPayload(member=Member(member=changed), errors=[])

    @mutation(DeletedPayload)
    async def remove_member(self, info: Info, input: Annotated[RemoveMemberInput, INPUT]) -> DeletedPayload:
        """Removes a member, whose tokens stop there at once. Needs MEMBER_MANAGE, of an OWNER also OWNER_MANAGE.

        Yourself you remove without, by a personal token.
        """
        await remove_member(info.context.app, info.context.who, ids.given_uuid(input.id, "Member"))
        return DeletedPayload(deleted_id=input.id, errors=[])
