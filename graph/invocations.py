"""Invocations: the records of calls."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from core import entities
from core.access import Permission, Viewer
from core.completion import cancel
from core.entities import InvocationStatus
from core.errors import Forbidden, InvalidInput
from core.ports.invocations import InvocationQuery
from graph import ids, links
from graph.connections import LongConnection, Page, long_row_page, rows_of
from graph.context import Context, Info
from graph.links import AccountLink, ApiTokenLink, CredentialLink, QuotaEntryLink, WorkspaceLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.scalars import JSON
from graph.types import Node, attribute, described, input_type, object_type, resolved
from graph.values import Attempt, Cost, ModelKey, ModelType, Pricing, ProviderType, TagInput, Usage

described(
    InvocationStatus,
    "How far a call is.",
    RUNNING="It has not ended.",
    SUCCEEDED="It ended well.",
    FAILED="It failed; `error` says why.",
    CANCELLED="Somebody ended it.",
)


@object_type
class Invocation(Node):
    """One call of a model, of any type: what it used, what it cost, which credentials served it."""

    invocation: strawberry.Private[entities.Invocation]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace that it was made in."""
        return self.invocation.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The invocation's id."""
        return ids.encode("Invocation", self.invocation.id)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace that it was made in."""
        return await links.present_workspace(info.context, self.invocation.workspace_id)

    @resolved
    def model(self) -> ModelKey:
        """The model that was called."""
        return ModelKey.of(self.invocation.model)

    @resolved
    def status(self) -> InvocationStatus:
        """How far it is."""
        return self.invocation.status

    @resolved
    def provider_type(self) -> ProviderType:
        """Whose credentials served it."""
        return self.invocation.provider_type

    @resolved
    async def credential(self, info: Info) -> CredentialLink | None:
        """The credential that served it; null where none was needed, and where it is gone."""
        configuration = await info.context.configuration(self.invocation.workspace_id)
        credential_id = self.invocation.credential_id
        found = configuration.credentials.get(credential_id) if credential_id is not None else None
        return links.optional_credential(configuration, found)

    @resolved
    def credential_name(self, info: Info) -> str | None:
        """The name that the credential had; null where none was needed, and without CREDENTIAL_READ."""
        return self.invocation.credential_name if _sees_names(info.context, self.invocation) else None

    @resolved
    def usage(self) -> Usage | None:
        """What it used; null while it runs, and where nothing was."""
        return Usage.of(self.invocation.usage)

    @resolved
    def cost(self) -> Cost | None:
        """What it cost; null where no price was known."""
        return Cost.of(self.invocation.cost)

    @resolved
    def pricing(self) -> Pricing | None:
        """The price in force when it was admitted; null where none was known."""
        return Pricing.of(self.invocation.pricing)

    @resolved
    async def quota_entries(self, info: Info) -> list[QuotaEntryLink] | None:
        """What it changed of quotas, in order; empty where it drew none."""
        return [links.quota_entry(one) for one in await info.context.load.quota_entries(self.invocation.id)]

    @resolved
    def attempts(self, info: Info) -> list[Attempt]:
        """Each try at a provider, in order; empty while it runs."""
        return Attempt.all_of(self.invocation.attempts, named=_sees_names(info.context, self.invocation))

    @resolved
    def started_at(self) -> datetime:
        """When it was admitted."""
        return self.invocation.started_at

    @resolved
    def ended_at(self) -> datetime | None:
        """When it ended; null while it runs."""
        return self.invocation.ended_at

    @resolved
    def time_to_first_token(self) -> float | None:
        """Seconds from its admission to the first delta, or to the first sound of speech; null where there was none."""
        return self.invocation.time_to_first_token

    @resolved
    def duration(self) -> float | None:
        """Seconds from its admission to its end; null while it runs."""
        ended = self.invocation.ended_at
        return (ended - self.invocation.started_at).total_seconds() if ended is not None else None

    @resolved
    async def account(self, info: Info) -> AccountLink | None:
        """Who made the call; null for a service token."""
        return await links.account(info.context, self.invocation.account_id)

    @resolved
    async def token(self, info: Info) -> ApiTokenLink | None:
        """The token that made the call."""
        return await links.api_token(info.context, self.invocation.token_id)

    @resolved
    def end_user(self) -> str | None:
        """The end user that the call named; null: none."""
        return self.invocation.end_user

    @resolved
    def tags(self) -> JSON:
        """The labels that the call was given, by name."""
        return dict(self.invocation.tags)

    @resolved
    def error(self) -> UserError | None:
        """Why it failed; null where it did not."""
        return UserError.optional(self.invocation.error)


def may_see_invocation(viewer: Viewer, invocation: entities.Invocation) -> bool:
    """Tell whether an invocation is the viewer's own, or one of a workspace whose usage they may see."""
    own = viewer.principal == invocation.principal and viewer.sees(invocation.workspace_id)
    return own or viewer.can(invocation.workspace_id, Permission.USAGE_READ)


def _sees_names(context: Context, invocation: entities.Invocation) -> bool:
    return context.who.can(invocation.workspace_id, Permission.CREDENTIAL_READ)


@input_type
class InvocationFilter:
    """Which invocations are asked for; what is left out does not restrict."""

    provider: str | None = attribute("Of this provider, by its name or an alias.", default=None)
    model_name: str | None = attribute("Of the model of this name.", default=None)
    type: ModelType | None = attribute("Of models of this type.", default=None)
    provider_type: ProviderType | None = attribute("Served by these credentials.", default=None)
    status: list[InvocationStatus] | None = attribute("Of one of these statuses.", default=None)
    credential_id: strawberry.ID | None = attribute("Served by this credential. Needs CREDENTIAL_READ.", default=None)
    account_id: strawberry.ID | None = attribute("Made by this person.", default=None)
    token_id: strawberry.ID | None = attribute("Made with this token.", default=None)
    end_user: str | None = attribute("Made for this end user.", default=None)
    tags: list[TagInput] | None = attribute("With all of these labels.", default=None)
    from_: datetime | None = attribute("Admitted at this time or later.", default=None, name="from")
    to: datetime | None = attribute("Admitted before this time.", default=None)

    def query(self, context: Context) -> InvocationQuery:
        """Return what core takes; an id that is none finds nothing."""
        return InvocationQuery(
            provider=(context.app.catalog.canonical(self.provider) or self.provider) if self.provider else None,
            model_name=self.model_name,
            type=self.type,
            provider_type=self.provider_type.value if self.provider_type is not None else None,
            status=tuple(status.value for status in self.status) if self.status is not None else None,
            credential_id=ids.given_credential(self.credential_id, ("filter", "credentialId"))
            if self.credential_id is not None
            else None,
            account_id=ids.optional_uuid(self.account_id, "Account", ("filter", "accountId")),
            token_id=ids.optional_uuid(self.token_id, "ApiToken", ("filter", "tokenId")),
            end_user=self.end_user,
            tags=tags_of(self.tags, ("filter", "tags")) if self.tags is not None else None,
            since=self.from_,
            until=self.to,
        )


MAX_TAGS = 64
MAX_TAG = 256


def tags_of(given: Sequence[TagInput], path: tuple[str, ...]) -> dict[str, str]:
    """Return labels by name.

    Raises:
        InvalidInput: too many, too long, without a name, or one named twice.
    """
    if len(given) > MAX_TAGS:
        raise InvalidInput(f"There are at most {MAX_TAGS} tags.", path=path)
    tags: dict[str, str] = {}
    for number, tag in enumerate(given):
        if not tag.name or len(tag.name) > MAX_TAG or len(tag.value) > MAX_TAG:
            raise InvalidInput(
                f"A tag has a name, and both name and value have at most {MAX_TAG} characters.",
                path=(*path, str(number)),
            )
        if tag.name in tags:
            raise InvalidInput(f"The tag {tag.name!r} is given twice.", path=(*path, str(number)))
        tags[tag.name] = tag.value
    return tags


async def invocation_page(
    context: Context, workspace_id: UUID, page: Page, given: InvocationFilter | None
) -> LongConnection[Invocation]:
    """Return a page of the workspace's invocations, newest first: all with USAGE_READ, else the viewer's own."""
    viewer = context.who
    query = given.query(context) if given is not None else InvocationQuery()
    if query.credential_id is not None and not viewer.can(workspace_id, Permission.CREDENTIAL_READ):
        raise Forbidden("Filtering by credential needs CREDENTIAL_READ.", path=("filter", "credentialId"))
    if not viewer.can(workspace_id, Permission.USAGE_READ):
        query = replace(query, principal=viewer.principal)
    async with context.app.storage.read() as tx:
        found = await tx.invocations.page(workspace_id, rows_of(page), query)
    return long_row_page(found, lambda one: Invocation(invocation=one), lambda one: one.id)


# ---- mutations


@input_type
class CancelInvocationInput:
    """Which call is to end."""

    id: strawberry.ID = attribute("The invocation's id.")


@object_type
class InvocationPayload:
    """What came of a change of an invocation."""

    invocation: Invocation | None = attribute("The invocation as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class InvocationMutations:
    """Changes of invocations."""

    @mutation(InvocationPayload)
    async def cancel_invocation(self, info: Info, input: Annotated[CancelInvocationInput, INPUT]) -> InvocationPayload:
        """Ends a running call at once, from any process; one that has ended stays as it is.

        For whoever began it, and with WORKSPACE_MANAGE for others.
        """
        invocation_id = ids.given_uuid(input.id, "Invocation")
        cancelled = await cancel(info.context.app, info.context.who, invocation_id)
        return InvocationPayload(invocation=Invocation(invocation=cancelled), errors=[])
