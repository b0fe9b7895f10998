"""Workspaces: the tenant, and everything that hangs on it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from core import entities
from core.access import workspace_of
from core.entities import CredentialStatus, OrderStatus, QuotaType, UsageDimension, UsageInterval
from core.errors import InvalidInput
from core.keys import rotate_workspace_key
from core.models import ModelQuery, ModelStatus
from core.providers_state import ProviderQuery
from core.resolve import find_model
from core.usage import MAX_BUCKETS
from core.workspaces import create_workspace, delete_workspace, update_workspace
from graph import ids
from graph.access import Permission, Role
from graph.audit import AuditEntry, audit_page
from graph.connections import (
    After,
    Before,
    Connection,
    First,
    Last,
    LongConnection,
    page_of,
    row_page,
    rows_of,
)
from graph.context import Info
from graph.credentials import Credential, CredentialLevel, credential_page
from graph.defaults import DefaultModel, all_defaults
from graph.invocations import Invocation, InvocationFilter, invocation_page
from graph.members import Invitation, Member, invitation_page, member_page
from graph.models import Model, key_of, model_page
from graph.mutations import ERRORS, INPUT, DeletedPayload, mutation
from graph.orders import Order, order_page
from graph.pools import Pool, pool_page
from graph.problems import UserError
from graph.products import Product, product_list
from graph.providers import Provider, provider_page
from graph.quotas import Quota, quota_list
from graph.route import Route, find_route
from graph.tokens import ApiToken, token_page
from graph.types import Node, argument, attribute, input_type, object_type, resolved
from graph.usage import UsageBucket, usage_buckets
from graph.values import ModelFeature, ModelKeyInput, ModelReferenceInput, ModelType

MAX_FALLBACKS = 8


@object_type
class KeyRotation:
    """A change of the key that seals a workspace's credentials."""

    from_version: int = attribute("The version that is replaced.")
    to_version: int = attribute("The version that seals what is written now.")
    resealed: int = attribute("How many credentials of `total` the new version seals.")
    total: int = attribute("How many credentials there were when it began.")
    started_at: datetime = attribute("When it began.")
    finished_at: datetime | None = attribute(
        "When it ended; null while it is under way. If fewer than `total` are resealed then, the others cannot be opened.",
        default=None,
    )


@object_type
class Workspace(Node):
    """A tenant: everything below belongs to exactly one, and nothing crosses."""

    workspace: strawberry.Private[entities.Workspace]

    @property
    def workspace_id(self) -> UUID:
        """Return the key of the workspace."""
        return self.workspace.id

    @resolved
    def id(self) -> strawberry.ID:
        """The workspace's id."""
        return ids.encode("Workspace", self.workspace.id)

    @resolved
    def name(self) -> str:
        """What it is called."""
        return self.workspace.name

    @resolved
    def slug(self) -> str:
        """Its name in addresses, unique in the installation."""
        return self.workspace.slug

    @resolved
    def created_at(self) -> datetime:
        """When it was made."""
        return self.workspace.created_at

    @resolved
    def updated_at(self) -> datetime:
        """When it was last changed."""
        return self.workspace.updated_at

    @resolved
    def viewer_role(self, info: Info) -> Role | None:
        """What you are here with this token; null for an operator who is no member."""
        membership = info.context.who.memberships.get(self.workspace.id)
        return membership.role if membership is not None else None

    @resolved
    def viewer_permissions(self, info: Info) -> list[Permission]:
        """What you may do here with this token."""
        granted = info.context.who.permissions(self.workspace.id)
        return [permission for permission in Permission if permission in granted]

    @resolved
    def viewer_can(self, info: Info, permission: Annotated[Permission, argument("What is to be done.")]) -> bool:
        """Whether you may do this here with this token."""
        return info.context.who.can(self.workspace.id, permission)

    @resolved
    def key_version(self) -> int:
        """The version of the key that seals credentials written now."""
        return self.workspace.key_version

    @resolved
    async def key_rotation(self, info: Info) -> KeyRotation | None:
        """The newest change of that key, under way or finished; null where there never was one."""
        found = await info.context.load.key_rotation(self.workspace.id)
        if found is None:
            return None
        return KeyRotation(
            from_version=found.from_version,
            to_version=found.to_version,
            resealed=found.resealed,
            total=found.total,
            started_at=found.started_at,
            finished_at=found.finished_at,
        )

    @resolved
    async def members(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        role: Annotated[Role | None, argument("Only those of this role.")] = None,
    ) -> Connection[Member] | None:
        """The people who belong to it, oldest first."""
        return await member_page(info.context, self.workspace.id, page_of(first, after, last, before), role)

    @resolved
    async def invitations(
        self, info: Info, first: First = None, after: After = None, last: Last = None, before: Before = None
    ) -> Connection[Invitation] | None:
        """Who is invited and has not accepted yet, newest first."""
        return await invitation_page(info.context, self.workspace.id, page_of(first, after, last, before))

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
        """Its tokens, newest first."""
        page = page_of(first, after, last, before)
        return await token_page(info.context, self.workspace.id, page, include_revoked=bool(include_revoked))

    @resolved
    async def providers(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        supporting: Annotated[ModelType | None, argument("Only those that serve models of this type.")] = None,
        configured: Annotated[
            bool | None, argument("Only those for which something is, or is not, configured or hosted.")
        ] = None,
        search: Annotated[str | None, argument("Only those whose name or label holds this text.")] = None,
    ) -> Connection[Provider]:
        """The providers that this installation knows, in the order of their manifests."""
        configuration = await info.context.configuration(self.workspace.id)
        query = ProviderQuery(supporting=supporting, configured=configured, search=search)
        return provider_page(info.context, configuration, page_of(first, after, last, before), query)

    @resolved
    async def provider(
        self, info: Info, name: Annotated[str, argument("The provider's name or an alias.")]
    ) -> Provider | None:
        """One provider; null where there is none of that name."""
        catalog = info.context.app.catalog
        canonical = catalog.canonical(name)
        manifest = catalog.manifest(canonical) if canonical is not None else None
        if manifest is None:
            return None
        configuration = await info.context.configuration(self.workspace.id)
        return Provider(configuration=configuration, manifest=manifest)

    @resolved
    async def models(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        type: Annotated[ModelType | None, argument("Only those of this type.")] = None,
        provider: Annotated[str | None, argument("Only those of this provider, by its name or an alias.")] = None,
        status: Annotated[list[ModelStatus] | None, argument("Only those of one of these statuses.")] = None,
        features: Annotated[list[ModelFeature] | None, argument("Only those with all of these features.")] = None,
        search: Annotated[str | None, argument("Only those whose name or label holds this text.")] = None,
        include_deprecated: Annotated[bool | None, argument("Whether those on their way out are listed.")] = False,  # noqa: FBT002 - an argument of the schema
    ) -> Connection[Model]:
        """The models that it can have, in the order of providers and manifests, then by name."""
        query = ModelQuery(
            type=type,
            provider=provider,
            status=tuple(status) if status is not None else None,
            features=tuple(features or ()),
            search=search,
            include_deprecated=bool(include_deprecated),
        )
        configuration = await info.context.configuration(self.workspace.id)
        return model_page(info.context, configuration, page_of(first, after, last, before), query)

    @resolved
    async def model(
        self, info: Info, key: Annotated[ModelKeyInput, argument("The model's provider, name and type.")]
    ) -> Model | None:
        """One model; null where there is none of that key."""
        configuration = await info.context.configuration(self.workspace.id)
        wanted = key_of(info.context, key)
        known = find_model(configuration, info.context.app.catalog, wanted) if wanted is not None else None
        return Model(configuration=configuration, known=known) if known is not None else None

    @resolved
    async def route(
        self,
        info: Info,
        type: Annotated[ModelType, argument("What is to be called.")] = ModelType.LLM,
        model: Annotated[ModelReferenceInput | None, argument("The model; left out, the default of the type.")] = None,
        credential_id: Annotated[strawberry.ID | None, argument("The credential that the call would pin.")] = None,
        fallbacks: Annotated[
            list[ModelReferenceInput] | None, argument("Models that follow, in this order; at most 8.")
        ] = None,
    ) -> Route | None:
        """What a call would do now, without making it: the candidates in order, and why each is in or out."""
        if len(fallbacks or ()) > MAX_FALLBACKS:
            raise InvalidInput(f"There are at most {MAX_FALLBACKS} fallbacks.", path=("fallbacks",))
        pinned = ids.given_credential(credential_id, ("credentialId",)) if credential_id is not None else None
        configuration = await info.context.configuration(self.workspace.id)
        references = [
            model.reference() if model is not None else None,
            *(one.reference() for one in fallbacks or ()),
        ]
        return await find_route(info.context, configuration, type, references, pinned)

    @resolved
    async def credentials(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        provider: Annotated[str | None, argument("Only those of this provider, by its name or an alias.")] = None,
        level: Annotated[CredentialLevel | None, argument("Only those that serve this.")] = None,
        model: Annotated[ModelKeyInput | None, argument("Only those of this model.")] = None,
        status: Annotated[list[CredentialStatus] | None, argument("Only those of one of these statuses.")] = None,
        search: Annotated[str | None, argument("Only those whose name holds this text.")] = None,
    ) -> Connection[Credential] | None:
        """Its credentials, oldest first."""
        return await credential_page(
            info.context,
            await info.context.configuration(self.workspace.id),
            page_of(first, after, last, before),
            provider=provider,
            level=level,
            model=model.key() if model is not None else None,
            status=status,
            search=search,
        )

    @resolved
    async def audit_log(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        action: Annotated[str | None, argument("Only those of this action, such as `member.update`.")] = None,
        subject_id: Annotated[strawberry.ID | None, argument("Only changes of this object.")] = None,
    ) -> LongConnection[AuditEntry] | None:
        """What was changed in it, newest first: by whom, and what it was before."""
        page = page_of(first, after, last, before)
        return await audit_page(info.context, self.workspace.id, page, action=action, subject_id=subject_id)

    @resolved
    async def pools(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        provider: Annotated[str | None, argument("Only those of this provider, by its name or an alias.")] = None,
        enabled: Annotated[bool | None, argument("Only those that are, or are not, switched on.")] = None,
    ) -> Connection[Pool] | None:
        """Its pools, oldest first."""
        configuration = await info.context.configuration(self.workspace.id)
        return pool_page(info.context, configuration, page_of(first, after, last, before), provider, enabled=enabled)

    @resolved
    async def quotas(
        self,
        info: Info,
        provider: Annotated[
            str | None, argument("Only those for this provider, by its name or an alias; shared ones too.")
        ] = None,
        type: Annotated[QuotaType | None, argument("Only those of this type.")] = None,
        include_archived: Annotated[bool | None, argument("Whether those that have ended are listed.")] = False,  # noqa: FBT002 - an argument of the schema
    ) -> list[Quota] | None:
        """Its balances of hosted use, in the order in which they are spent."""
        return await quota_list(
            info.context, self.workspace.id, provider=provider, type=type, include_archived=bool(include_archived)
        )

    @resolved
    async def products(
        self,
        info: Info,
        provider: Annotated[
            str | None, argument("Only those for this provider, by its name or an alias; shared ones too.")
        ] = None,
    ) -> list[Product]:
        """What the operator sells to it."""
        return await product_list(info.context, self.workspace.id, provider)

    @resolved
    async def orders(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        provider: Annotated[
            str | None, argument("Only those of quota for this provider, by its name or an alias.")
        ] = None,
        status: Annotated[list[OrderStatus] | None, argument("Only those in one of these states.")] = None,
    ) -> Connection[Order] | None:
        """Its purchases of quota, newest first."""
        page = page_of(first, after, last, before)
        return await order_page(info.context, self.workspace.id, page, provider=provider, status=status)

    @resolved
    async def default_models(self, info: Info) -> list[DefaultModel]:
        """The default model of every type, set or not."""
        return all_defaults(await info.context.configuration(self.workspace.id))

    @resolved
    async def invocations(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        filter: Annotated[InvocationFilter | None, argument("Only those that match.")] = None,
    ) -> LongConnection[Invocation] | None:
        """Its calls, newest first: all with USAGE_READ, without it your own."""
        page = page_of(first, after, last, before)
        return await invocation_page(info.context, self.workspace.id, page, filter)

    @resolved
    async def usage(
        self,
        info: Info,
        from_: Annotated[datetime, argument("Of calls admitted at this time or later.", name="from")],
        to: Annotated[datetime, argument("Of calls admitted before this time.")],
        interval: Annotated[
            UsageInterval | None, argument("Cut into parts of this length, in UTC; left out, one part.")
        ] = None,
        group_by: Annotated[
            list[UsageDimension] | None, argument("What is told apart; left out, everything is added up.")
        ] = None,
        tag_name: Annotated[str | None, argument("The tag that TAG in `groupBy` tells apart by.")] = None,
        filter: Annotated[InvocationFilter | None, argument("Only of calls that match.")] = None,
        first: Annotated[int | None, argument("How many buckets at most, 1 to 1000.")] = MAX_BUCKETS,
    ) -> list[UsageBucket] | None:
        """What its calls used and cost, by time, then by what is told apart; calls that still run are not in it yet.

        Where the records of calls are not kept any more, an hour counts in full though `from` or `to` is within it.
        """
        return await usage_buckets(
            info.context,
            self.workspace.id,
            since=from_,
            until=to,
            interval=interval,
            group_by=group_by or (),
            tag_name=tag_name,
            given=filter,
            first=MAX_BUCKETS if first is None else first,
        )


@strawberry.type(name="Query")
class WorkspaceQuery:
    """Workspaces."""

    @resolved
    async def workspace(
        self,
        info: Info,
        id: Annotated[strawberry.ID | None, argument("Its id.")] = None,
        slug: Annotated[str | None, argument("Its slug; not together with `id`.")] = None,
    ) -> Workspace | None:
        """One workspace; null where it is not there or not one of yours.

        Asked for by neither id nor slug, it is the token's, or the only one that your account belongs to.
        """
        context = info.context
        if id is not None and slug is not None:
            raise InvalidInput("Give `id` or `slug`, not both.", path=("slug",))
        if slug is not None:
            async with context.app.storage.read() as tx:
                found = await tx.workspaces.by_slug(slug)
        else:
            key = ids.key_of(id, "Workspace") if id is not None else workspace_of(context.who, None, "id")
            found = await context.load.workspace(key) if key is not None and context.who.sees(key) else None
        return Workspace(workspace=found) if found is not None and context.who.sees(found.id) else None

    @resolved
    async def workspaces(
        self,
        info: Info,
        first: First = None,
        after: After = None,
        last: Last = None,
        before: Before = None,
        search: Annotated[str | None, argument("Only those whose name or slug holds this text.")] = None,
    ) -> Connection[Workspace]:
        """Your workspaces, oldest first; for an operator all of the installation."""
        viewer, page = info.context.who, page_of(first, after, last, before)
        among = None if viewer.is_operator else list(viewer.memberships)
        async with info.context.app.storage.read() as tx:
            found = await tx.workspaces.page(rows_of(page), among=among, search=search)
        return row_page(found, lambda one: Workspace(workspace=one), lambda one: one.id)


# ---- mutations


@input_type
class CreateWorkspaceInput:
    """What a new workspace is to be."""

    name: str = attribute("What it is called, 1 to 100 characters.")
    slug: str | None = attribute(
        "Its name in addresses: lower-case letters, digits and single hyphens; left out, made from the name.",
        default=None,
    )


@input_type
class UpdateWorkspaceInput:
    """What is to change in a workspace; what is left out stays."""

    id: strawberry.ID = attribute("The workspace's id.")
    name: str | None = attribute("What it is to be called, 1 to 100 characters.", default=strawberry.UNSET)


@input_type
class DeleteWorkspaceInput:
    """Which workspace is to go, for good."""

    id: strawberry.ID = attribute("The workspace's id.")
    confirm_name: str = attribute("Its name, to show that this one is meant.")


@input_type
class RotateWorkspaceKeyInput:
    """Which workspace is to get a new key."""

    workspace_id: strawberry.ID = attribute("The workspace's id.")


@object_type
class WorkspacePayload:
    """What came of a change of a workspace."""

    workspace: Workspace | None = attribute("The workspace as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class WorkspaceMutations:
    """Changes of workspaces."""

    @mutation(WorkspacePayload)
    async def create_workspace(self, info: Info, input: Annotated[CreateWorkspaceInput, INPUT]) -> WorkspacePayload:
        """Makes a workspace whose owner is your account. Needs a personal token."""
        context = info.context
        made = await create_workspace(context.app, context.who, input.name, input.slug)
        await context.look_again()
        return WorkspacePayload(workspace=Workspace(workspace=made), errors=[])

    @mutation(WorkspacePayload)
    async def update_workspace(self, info: Info, input: Annotated[UpdateWorkspaceInput, INPUT]) -> WorkspacePayload:
        """Renames a workspace. Needs WORKSPACE_MANAGE."""
        if input.name is None:
            raise InvalidInput("A workspace has a name: leave `name` out to keep it.", path=("name",))
        context, workspace_id = info.context, ids.given_uuid(input.id, "Workspace")
        name = input.name if input.name is not strawberry.UNSET else None
        changed = await update_workspace(context.app, context.who, workspace_id, name=name)
        return WorkspacePayload(workspace=Workspace(workspace=changed), errors=[])

    @mutation(WorkspacePayload)
    async def rotate_workspace_key(
        self, info: Info, input: Annotated[RotateWorkspaceKeyInput, INPUT]
    ) -> WorkspacePayload:
        """Seals a workspace's credentials by a new key while calls go on, then destroys the old one: see `keyRotation`.

        A rotation that is under way is joined. Needs WORKSPACE_MANAGE.
        """
        workspace_id = ids.given_uuid(input.workspace_id, "Workspace", ("workspaceId",))
        rotated = await rotate_workspace_key(info.context.app, info.context.who, workspace_id)
        return WorkspacePayload(workspace=Workspace(workspace=rotated), errors=[])

    @mutation(DeletedPayload)
    async def delete_workspace(self, info: Info, input: Annotated[DeleteWorkspaceInput, INPUT]) -> DeletedPayload:
        """Deletes a workspace, its keys and everything in it, for good; its calls end. Needs WORKSPACE_DELETE."""
        workspace_id = ids.given_uuid(input.id, "Workspace")
        await delete_workspace(info.context.app, info.context.who, workspace_id, input.confirm_name)
        return DeletedPayload(deleted_id=input.id, errors=[])
