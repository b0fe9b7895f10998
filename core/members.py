"""Use cases of members: invite, take an invitation back, join, change a role, remove or leave."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from core.access import ROLE_PERMISSIONS, Permission, Role, Viewer, require, require_all_models, require_unlimited
from core.app import App
from core.audit import changes
from core.entities import Account, ApiToken, Invitation, Member
from core.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound
from core.ids import uuid7
from core.ports.transaction import Transaction
from core.secret import INVITATION_PREFIX, Secret, hash_secret, new_secret
from core.tokens import MAX_NAME as MAX_TOKEN_NAME
from core.tokens import personal_token

MAX_NAME = 100
MAX_EMAIL = 320
VALID_FOR = timedelta(days=7)
_INVITE = "invite people, who get tokens,"
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """Whom to invite: `name` is what they are called until they say otherwise."""

    workspace_id: UUID
    email: str
    name: str | None
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """The secret of an invitation, and what the person calls themselves and their token."""

    invitation: str
    name: str | None
    token_name: str | None


async def add_member(app: App, viewer: Viewer, new: NewMember) -> Secret:
    """Invite a person and return the one-time secret, which is not to be had again; it ends after 7 days.

    An earlier invitation of the same address to the workspace ends with this one.

    Raises:
        NotFound: there is no such workspace of the viewer's.
        Forbidden: the role is above the viewer's own, or their token is limited in what it may spend or call.
        InvalidInput: the address or name is none.
        AlreadyExists: the person is a member.
    """
    require(viewer, new.workspace_id, Permission.MEMBER_MANAGE)
    require_unlimited(viewer, _INVITE)
    require_all_models(viewer, _INVITE)
    _check_role(viewer, new.workspace_id, new.role)
    email, now, secret = _checked_email(new.email), app.clock.now(), new_secret(INVITATION_PREFIX)
    invitation = Invitation(
        id=uuid7(),
        workspace_id=new.workspace_id,
        email=email,
        name=_checked_name(new.name),
        role=new.role,
        invited_by=viewer.account_id,
        token_id=viewer.token_id,
        expires_at=now + VALID_FOR,
        accepted_at=None,
        created_at=now,
    )
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(new.workspace_id)
        account = await tx.accounts.by_email(email)
        if account is not None and await tx.members.find(new.workspace_id, account.id) is not None:
            raise AlreadyExists(f"{email} is a member already; `updateMember` changes the role.", path=("email",))
        await tx.invitations.put(invitation, hash_secret(secret.reveal()))
        await tx.audit.add(
            workspace_id=new.workspace_id,
            viewer=viewer,
            action="member.invite",
            subject=f"Invitation:{invitation.id}",
            summary=f"Invited {email} as {new.role}",
            changes=changes(email=(None, email), role=(None, new.role)),
        )
    return secret


async def revoke_invitation(app: App, viewer: Viewer, invitation_id: UUID) -> None:
    """End an invitation that nobody has accepted yet.

    Raises:
        NotFound: there is no such invitation to a workspace of the viewer's.
        Forbidden: its role is above the viewer's own.
        Conflict: it was accepted.
    """
    async with app.storage.transaction() as tx:
        invitation = (await tx.invitations.get_many([invitation_id])).get(invitation_id)
        if invitation is None or not viewer.sees(invitation.workspace_id):
            raise NotFound("There is no such invitation, or it is to none of your workspaces.", path=("id",))
        require(viewer, invitation.workspace_id, Permission.MEMBER_MANAGE)
        _check_role(viewer, invitation.workspace_id, invitation.role, "The invited person")
        await tx.workspaces.touch(invitation.workspace_id)
        if not await tx.invitations.delete(invitation_id):
            raise Conflict("The invitation is not there any more: was it accepted? See `members`.", path=("id",))
        await tx.audit.add(
            workspace_id=invitation.workspace_id,
            viewer=viewer,
            action="member.uninvite",
            subject=f"Invitation:{invitation_id}",
            summary=f"Took back the invitation of {invitation.email} as {invitation.role}",
            changes=changes(email=(invitation.email, None), role=(invitation.role, None)),
        )


async def accept_invitation(app: App, viewer: Viewer | None, given: Acceptance) -> tuple[ApiToken, Secret]:
    """Make the invited person a member, and return a personal token of theirs with its secret.

    Nobody needs to be authenticated: a person who has no account yet gets one. Who has one proves it by a personal
    token of it, so that whoever invites a person cannot act as them elsewhere.

    Raises:
        NotFound: the secret is of no invitation, or of one that a newer one has replaced.
        Conflict: the invitation was used or is over, or who gave it may not any more.
        Forbidden: the address has an account, and the viewer is somebody else.
    """
    name, token_name = _checked_name(given.name), _checked_token_name(given.token_name)
    now, secret, secret_hash = app.clock.now(), new_secret(), hash_secret(given.invitation.strip())
    async with app.storage.transaction() as tx:
        invitation = await _taken(tx, secret_hash, now)
        await _check_inviter(tx, invitation, now)
        account = await tx.accounts.by_email(invitation.email)
        if account is None:
            account = await _new_account(tx, invitation, name, now)
            token = personal_token(account.id, secret, token_name, now)
        else:
            token = _token_beside(_proven(viewer, account), account, secret, token_name, now)
        member = await _join(tx, invitation, account, now)
        await tx.tokens.insert(token, hash_secret(secret.reveal()))
        await tx.audit.add(
            workspace_id=invitation.workspace_id,
            viewer=_holder(token),
            action="member.join",
            subject=f"Member:{member.id}",
            summary=f"{account.name} accepted the invitation as {member.role}",
            changes=changes(role=(None, member.role)),
        )
    return token, secret


async def update_member(app: App, viewer: Viewer, member_id: UUID, role: Role) -> Member:
    """Give a member another role.

    Raises:
        NotFound: there is no such member of a workspace of the viewer's.
        Forbidden: the role they have or get is above the viewer's own.
        Conflict: they are the last OWNER.
    """
    async with app.storage.transaction() as tx:
        member = await _manageable(tx, viewer, member_id)
        _check_role(viewer, member.workspace_id, role)
        if member.role is role:
            return member
        if not await tx.members.set_role(member_id, role):
            raise _last_owner("make somebody else an OWNER before")
        await tx.audit.add(
            workspace_id=member.workspace_id,
            viewer=viewer,
            action="member.update",
            subject=f"Member:{member_id}",
            summary=f"Made {await _name_of(tx, member)} {role}, who was {member.role}",
            changes=changes(role=(member.role, role)),
        )
        return (await tx.members.get_many([member_id]))[member_id]


async def remove_member(app: App, viewer: Viewer, member_id: UUID) -> None:
    """Remove a member; their tokens stop in the workspace at once. Oneself one removes without MEMBER_MANAGE.

    Raises:
        NotFound: there is no such member of a workspace of the viewer's.
        Forbidden: their role is above the viewer's own, or a workspace's token is to end its own person's place.
        Conflict: they are the last OWNER.
    """
    async with app.storage.transaction() as tx:
        member = await _manageable(tx, viewer, member_id, or_own=True)
        name = await _name_of(tx, member)
        if not await tx.members.delete(member_id):
            raise _last_owner("make somebody else an OWNER before, or delete the workspace")
        await tx.tokens.revoke_of_member(member.workspace_id, member.account_id, app.clock.now())
        is_own = member.account_id == viewer.account_id
        await tx.audit.add(
            workspace_id=member.workspace_id,
            viewer=viewer,
            action="member.leave" if is_own else "member.remove",
            subject=f"Member:{member_id}",
            summary=f"{name} left" if is_own else f"Removed {name}, who was {member.role}",
            changes=changes(role=(member.role, None)),
        )


# ---- who may


async def _manageable(tx: Transaction, viewer: Viewer, member_id: UUID, *, or_own: bool = False) -> Member:
    """Return a member that the viewer may change, and let nobody else change it before the transaction ends."""
    member = (await tx.members.get_many([member_id])).get(member_id)
    if member is None or not viewer.sees(member.workspace_id):
        raise _no_member()
    is_leaving = or_own and member.account_id == viewer.account_id and viewer.workspace_id is None
    if not is_leaving:
        require(viewer, member.workspace_id, Permission.MEMBER_MANAGE)
    await tx.workspaces.touch(member.workspace_id)
    member = (await tx.members.get_many([member_id])).get(member_id)
    if member is None:
        raise _no_member()
    if not is_leaving:
        _check_role(viewer, member.workspace_id, member.role, "This member")
    return member


def _check_role(viewer: Viewer, workspace_id: UUID, role: Role, whose: str | None = None) -> None:
    """Let nobody give a role above their own, nor change somebody who has one."""
    own = viewer.memberships[workspace_id].role
    if role is Role.OWNER:
        require(viewer, workspace_id, Permission.OWNER_MANAGE)
    if role.rank > own.rank:
        if whose is not None:
            raise Forbidden(f"{whose} is {role}, above your own role {own}.", path=("id",))
        raise Forbidden(f"You are {own} in this workspace: you cannot give {role}.", path=("role",))


async def _check_inviter(tx: Transaction, invitation: Invitation, now: datetime) -> None:
    """Let an invitation lapse with the power to give it."""
    role = await _role_now(tx, invitation, now)
    may = role is not None and Permission.MEMBER_MANAGE in ROLE_PERMISSIONS[role] and role.rank >= invitation.role.rank
    if not may:
        raise Conflict(
            "Who gave this invitation may not give it any more: ask an owner or admin for a new one.",
            path=("invitation",),
        )


async def _role_now(tx: Transaction, invitation: Invitation, now: datetime) -> Role | None:
    if invitation.invited_by is not None:
        inviter = await tx.members.find(invitation.workspace_id, invitation.invited_by)
        return inviter.role if inviter is not None else None
    token = await tx.tokens.get(invitation.token_id)
    if token is None or token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now):
        return None
    return token.role


def _proven(viewer: Viewer | None, account: Account) -> Viewer:
    if viewer is None or viewer.account_id != account.id or viewer.workspace_id is not None:
        raise Forbidden(
            f"{account.email} has an account already: accept the invitation with a personal token of that account.",
            path=("invitation",),
        )
    return viewer


# ---- what joining makes


async def _taken(tx: Transaction, secret_hash: bytes, now: datetime) -> Invitation:
    """Use an invitation up; whoever comes second finds it used."""
    found = await tx.invitations.by_hash(secret_hash)
    if found is not None:
        await tx.workspaces.touch(found.workspace_id)
    taken = await tx.invitations.accept(secret_hash, now)
    if taken is None:
        raise _refusal(await tx.invitations.by_hash(secret_hash))
    return taken


async def _new_account(tx: Transaction, invitation: Invitation, name: str | None, now: datetime) -> Account:
    account = Account(
        id=uuid7(),
        name=name or invitation.name or invitation.email.partition("@")[0][:MAX_NAME],
        email=invitation.email,
        is_operator=False,
        created_at=now,
    )
    try:
        await tx.accounts.insert(account)
    except AlreadyExists:
        raise Conflict(
            f"{account.email} got an account at this very moment: accept again, with a personal token of that account.",
            path=("invitation",),
        ) from None
    return account


async def _join(tx: Transaction, invitation: Invitation, account: Account, now: datetime) -> Member:
    member = Member(
        id=uuid7(),
        workspace_id=invitation.workspace_id,
        account_id=account.id,
        role=invitation.role,
        created_at=now,
    )
    try:
        await tx.members.insert(member)
    except AlreadyExists:
        raise AlreadyExists("You are a member of this workspace already.", path=("invitation",)) from None
    return member


def _token_beside(viewer: Viewer, account: Account, secret: Secret, name: str, now: datetime) -> ApiToken:
    """Return a further token of an account, which may no more than the one that proved it."""
    require_unlimited(viewer, "accept")
    models = tuple(sorted(viewer.allowed_models, key=str)) if viewer.allowed_models is not None else None
    return personal_token(account.id, secret, name, now, viewer.token_role, models)


def _holder(token: ApiToken) -> Viewer:
    """Return who acts when an invitation is accepted: the person with their new token."""
    return Viewer(
        token_id=token.id,
        account_id=token.account_id,
        is_operator=False,
        workspace_id=None,
        token_role=token.role,
        memberships={},
    )


# ---- what is refused


def _refusal(invitation: Invitation | None) -> Conflict | NotFound:
    if invitation is None:
        return NotFound("There is no such invitation, or a newer one has replaced it.", path=("invitation",))
    if invitation.accepted_at is not None:
        return Conflict("This invitation was used already: ask for a new one.", path=("invitation",))
    return Conflict("This invitation is over after 7 days: ask for a new one.", path=("invitation",))


def _no_member() -> NotFound:
    return NotFound("There is no such member, or they are not of one of your workspaces.", path=("id",))


def _last_owner(remedy: str) -> Conflict:
    return Conflict(f"A workspace keeps at least one OWNER: {remedy}.", path=("id",))


def _checked_email(email: str) -> str:
    email = email.strip().lower()
    if len(email) > MAX_EMAIL or not _EMAIL.fullmatch(email):
        raise InvalidInput(
            f"An e-mail address is one like `ada@example.com`, at most {MAX_EMAIL} characters.", path=("email",)
        )
    return email


def _checked_name(name: str | None) -> str | None:
    if name is None:
        return None
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        raise InvalidInput(f"A name has 1 to {MAX_NAME} characters.", path=("name",))
    return name


def _checked_token_name(name: str | None) -> str:
    name = name.strip() if name is not None else "First token"
    if not name or len(name) > MAX_TOKEN_NAME:
        raise InvalidInput(f"A token's name has 1 to {MAX_TOKEN_NAME} characters.", path=("tokenName",))
    return name


async def _name_of(tx: Transaction, member: Member) -> str:
    found = await tx.accounts.get_many([member.account_id])
    return found[member.account_id].name if member.account_id in found else "somebody"
