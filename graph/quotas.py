"""Quotas: balances of hosted use, and the ledger of their changes."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from core import entities
from core.access import Permission
from core.changes import Change, ChangeKind, Noun
from core.entities import BudgetPeriod, EntryKind, QuotaType
from core.errors import NotFound
from core.ledger import period_end
from core.live import Topic, follow
from core.quotas import NewQuota, adjust_quota, archive_quota, grant_quota
from graph import ids, links
from graph.changes import seen, workspace_followed
from graph.connections import After, Before, First, Last, LongConnection, long_row_page, page_of, rows_of
from graph.context import Context, Info
from graph.links import AccountLink, InvocationLink, OrderLink, ProviderLink, WorkspaceLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.scalars import BigInt
from graph.types import Node, argument, attribute, described, input_type, object_type, resolved, streamed
from graph.values import ModelKey, ModelKeyInput, QuotaUnit

described(
    QuotaType,
    "Where hosted use comes from, in the order in which it is spent.",
    PAID="It was bought.",
    FREE="It is given.",
    TRIAL="It is given once, to begin with.",
)
described(
    EntryKind,
    "Why a balance has changed.",
    name="QuotaEntryKind",
    GRANT="It was given.",
    RESERVE="A call holds what it may use.",
    SETTLE="A call was booked, and the rest of its hold freed.",
    LATE_SETTLE="What was booked for a process that seemed dead was corrected.",
    RELEASE="A call used nothing, and its hold was freed.",
    EXPIRE="The hold of a dead process was freed.",
    PURCHASE="It was bought.",
    REFUND="A purchase was taken back.",
    ADJUST="An operator changed the limit, or a refund failed and what it took was given back.",
    RESET="A new period began, or a call was booked in the period that it was admitted in.",
)


@object_type
class QuotaEntry(Node):
    """One change of a balance. Entries are never changed: limit, used and reserved are the sums of their changes."""

    entry: strawberry.Private[entities.QuotaEntry]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace."""
        return self.entry.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The entry's id."""
        return ids.encode("QuotaEntry", self.entry.id)

    @resolved
    def at(self) -> datetime:
        """When the balance changed."""
        return self.entry.at

    @resolved
    def kind(self) -> EntryKind:
        """Why it changed."""
        return self.entry.kind

    @resolved
    def limit_change(self) -> BigInt:
        """By how much the limit changed."""
        return self.entry.limit_change

    @resolved
    def used_change(self) -> BigInt:
        """By how much `used` changed."""
        return self.entry.used_change

    @resolved
    def reserved_change(self) -> BigInt:
        """By how much `reserved` changed."""
        return self.entry.reserved_change

    @resolved
    def remaining(self) -> BigInt | None:
        """What was left afterwards; null: without end."""
        return self.entry.remaining

    @resolved
    async def invocation(self, info: Info) -> InvocationLink | None:
        """The call that changed it; null where none did, and where its record is gone."""
        key = self.entry.invocation_id
        return await links.invocation(info.context, key) if key is not None else None

    @resolved
    async def order(self, info: Info) -> OrderLink | None:
        """The order that changed it; null where none did."""
        key = self.entry.order_id
        return await links.order(info.context, key) if key is not None else None

    @resolved
    async def actor(self, info: Info) -> AccountLink | None:
        """The person who changed it; null where a call or the server did."""
        return await links.account(info.context, self.entry.account_id, self.entry.workspace_id)

    @resolved
    def note(self) -> str | None:
        """Why, in words; null where nobody said."""
        return self.entry.note


@object_type
class Quota(Node):
    """A balance of hosted use."""

    quota: strawberry.Private[entities.Quota]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace that it belongs to."""
        assert self.quota.workspace_id is not None
        return self.quota.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The quota's id."""
        return ids.encode("Quota", self.quota.id)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace that it belongs to."""
        return await links.present_workspace(info.context, self.workspace_id)

    @resolved
    async def provider(self, info: Info) -> ProviderLink | None:
        """The provider that it is for; null: it is shared by every hosted one."""
        name = self.quota.provider
        manifest = info.context.app.catalog.manifest(name) if name is not None else None
        if manifest is None:
            return None
        return links.provider(await info.context.configuration(self.workspace_id), manifest)

    @resolved
    def type(self) -> QuotaType:
        """Where it comes from."""
        return self.quota.type

    @resolved
    def unit(self) -> QuotaUnit:
        """What it counts."""
        return self.quota.unit

    @resolved
    def limit(self) -> BigInt | None:
        """What may be used; null: without end."""
        return self.quota.limit

    @resolved
    def used(self) -> BigInt:
        """What was used, of this period where it resets."""
        return self.quota.used

    @resolved
    def reserved(self) -> BigInt:
        """What calls under way hold."""
        return self.quota.reserved

    @resolved
    def remaining(self) -> BigInt | None:
        """What is left: below 0 where the last call used more than there was. Null: without end."""
        limit = self.quota.limit
        return None if limit is None else limit - self.quota.used - self.quota.reserved

    @resolved
    def restricted_to(self) -> list[ModelKey] | None:
        """The models that it pays for; null: every hosted one."""
        models = self.quota.restricted_to
        return None if models is None else [ModelKey.of(key) for key in sorted(models, key=str)]

    @resolved
    def is_valid(self) -> bool:
        """Whether anything is left of it, and it has not ended."""
        return self.quota.is_valid and self.quota.archived_at is None

    @resolved
    def resets_every(self) -> BudgetPeriod | None:
        """How often what was used is forgotten; null: never."""
        return self.quota.resets_every

    @resolved
    def resets_at(self, info: Info) -> datetime | None:
        """When the next period begins; null: never."""
        if self.quota.archived_at is not None:
            return None
        return period_end(self.quota.resets_every, info.context.app.clock.now())

    @resolved
    def archived_at(self) -> datetime | None:
        """When it ended; null: it is live."""
        return self.quota.archived_at

    @resolved
    async def entries(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> LongConnection[QuotaEntry] | None:
        """Its changes, newest first."""
        page = rows_of(page_of(first, after, last, before))
        async with info.context.app.storage.read() as tx:
            found = await tx.quotas.entries(self.workspace_id, self.quota.id, page)
        return long_row_page(found, lambda one: QuotaEntry(entry=one), lambda one: one.id)


async def quota_list(
    context: Context, workspace_id: UUID, *, provider: str | None, type: QuotaType | None, include_archived: bool
) -> list[Quota]:
    """Return the quotas of a workspace in the order in which they are spent, ended ones last."""
    async with context.app.storage.read() as tx:
        found: Sequence[entities.Quota] = await tx.quotas.of_workspace(workspace_id, include_archived=include_archived)
    name = (context.app.catalog.canonical(provider) or provider) if provider is not None else None
    order = list(QuotaType)
    return [
        Quota(quota=one)
        for one in sorted(
            found, key=lambda one: (one.archived_at is not None, order.index(one.type), one.provider is None, one.id)
        )
        if (name is None or one.provider in {None, name}) and type in {None, one.type}
    ]


# ---- mutations


@input_type
class GrantQuotaInput:
    """A quota to give."""

    workspace_id: strawberry.ID = attribute("The workspace that is given it.")
    provider: str | None = attribute("The hosted provider; left out, it is shared by all.", default=None)
    type: QuotaType = attribute("Where it comes from.")
    unit: QuotaUnit = attribute("What it counts.")
    limit: BigInt | None = attribute("What may be used; left out: without end.", default=None)
    restricted_to: list[ModelKeyInput] | None = attribute("The models that it pays for; left out: all.", default=None)
    resets_every: BudgetPeriod | None = attribute("How often what was used is forgotten; not for PAID.", default=None)
    note: str | None = attribute("Why, for the ledger.", default=None)
    idempotency_key: str = attribute("The same key and input give the same quota for 24 hours.")


@input_type
class AdjustQuotaInput:
    """A change of a limit."""

    id: strawberry.ID = attribute("The quota's id.")
    amount: BigInt = attribute("What the limit is raised by; negative: lowered, not below what is used or held.")
    note: str = attribute("Why, for the ledger.")
    idempotency_key: str = attribute("The same key and input change it once within 24 hours.")


@input_type
class ArchiveQuotaInput:
    """A quota to end."""

    id: strawberry.ID = attribute("The quota's id.")
    note: str | None = attribute("Why, for the audit log.", default=None)


@object_type
class QuotaPayload:
    """What came of a change of a quota."""

    quota: Quota | None = attribute("The quota as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class QuotaMutations:
    """Changes of quotas."""

    @mutation(QuotaPayload)
    async def grant_quota(self, info: Info, input: Annotated[GrantQuotaInput, INPUT]) -> QuotaPayload:
        """Gives a workspace a quota. One of its provider and type may be live. Needs QUOTA_MANAGE: operators."""
        new = NewQuota(
            workspace_id=ids.given_uuid(input.workspace_id, "Workspace", ("workspaceId",)),
            provider=input.provider,
            type=input.type,
            unit=input.unit,
            limit=input.limit,
            restricted_to=tuple(one.key() for one in input.restricted_to) if input.restricted_to is not None else None,
            resets_every=input.resets_every,
            note=input.note,
            idempotency_key=input.idempotency_key,
        )
        return QuotaPayload(quota=Quota(quota=await grant_quota(info.context.app, info.context.who, new)), errors=[])

    @mutation(QuotaPayload)
    async def adjust_quota(self, info: Info, input: Annotated[AdjustQuotaInput, INPUT]) -> QuotaPayload:
        """Raises or lowers the limit of a quota. Needs QUOTA_MANAGE: operators."""
        changed = await adjust_quota(
            info.context.app,
            info.context.who,
            ids.given_uuid(input.id, "Quota"),
            amount=input.amount,
            note=input.note,
            idempotency_key=input.idempotency_key,
        )
        return QuotaPayload(quota=Quota(quota=changed), errors=[])

    @mutation(QuotaPayload)
    async def archive_quota(self, info: Info, input: Annotated[ArchiveQuotaInput, INPUT]) -> QuotaPayload:
        """Ends a quota: nothing more is drawn from it; calls under way are still booked. Needs QUOTA_MANAGE: operators."""
        quota_id = ids.given_uuid(input.id, "Quota")
        ended = await archive_quota(info.context.app, info.context.who, quota_id, note=input.note)
        return QuotaPayload(quota=Quota(quota=ended), errors=[])


# ---- changes as they happen


@object_type
class QuotaChange:
    """A change of a quota or of its balance."""

    kind: ChangeKind = attribute("What happened.")
    id: strawberry.ID = attribute("The quota's id.")
    quota: Quota | None = attribute("The quota as it is now; null where it is gone.", default=None)


@strawberry.type(name="Subscription")
class QuotaSubscriptions:
    """Changes of quotas."""

    @streamed
    async def quota_changed(
        self,
        info: Info,
        workspace_id: Annotated[
            strawberry.ID | None,
            argument(
                "The workspace; left out, the quota's, else the token's, or the only one that your account belongs to."
            ),
        ] = None,
        quota_id: Annotated[strawberry.ID | None, argument("Only this quota: it comes first, as CURRENT.")] = None,
    ) -> AsyncGenerator[QuotaChange, None]:
        """Streams changes of quotas and of their balances, several of the same moment as one.

        Ends with an error when access ends, or when changes may have been missed: subscribe again. Needs QUOTA_READ.
        """
        context = info.context
        key = ids.optional_uuid(quota_id, "Quota", ("quotaId",))
        found = await context.load.quota(key) if key is not None else None
        given = ids.optional_uuid(workspace_id, "Workspace", ("workspaceId",))
        own = found.workspace_id if found is not None and context.who.sees(found.workspace_id or UUID(int=0)) else None
        if key is not None and own is None:
            raise _unknown()
        topic = Topic(
            workspace_id=workspace_followed(context, given, own),
            noun=Noun.QUOTA,
            permission=Permission.QUOTA_READ,
            key=str(key) if key is not None else None,
        )
        news = follow(context.app, context.who, topic)
        if key is not None and own != topic.workspace_id:
            raise _unknown()
        return seen(context, news, _quota_change)


async def _quota_change(context: Context, change: Change) -> QuotaChange | None:
    key = UUID(change.key)
    found = await context.load.quota(key)
    kind = change.kind if found is not None else ChangeKind.DELETED
    return QuotaChange(kind=kind, id=ids.encode("Quota", key), quota=Quota(quota=found) if found is not None else None)


def _unknown() -> NotFound:
    return NotFound("There is no such quota, or it is not one of yours.", path=("quotaId",))
