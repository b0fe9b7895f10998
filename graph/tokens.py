"""Bearer tokens."""

from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

import strawberry

from core import entities
from core.errors import Forbidden, InvalidInput
from core.model_types import ModelKey as CoreModelKey
from core.tokens import KEEP, NewToken, TokenChange, create_token, revoke_token, update_token
from graph import ids, links
from graph.access import Role
from graph.budgets import Budget, BudgetInput
from graph.connections import Connection, Page, row_page, rows_of
from graph.context import Context, Info
from graph.links import AccountLink, WorkspaceLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.problems import UserError
from graph.types import Node, attribute, input_type, object_type, resolved
from graph.values import ModelKey, ModelKeyInput

T = TypeVar("T")

MAX_LISTED = 1000
"""How many models or credentials a token names at most."""


@object_type
class ApiToken(Node):
    """A bearer token: of a workspace, or personal, which acts for its account in each of its workspaces.

    Its power is never above the role that its account has there now.
    """

    token: strawberry.Private[entities.ApiToken]

    @property
    def workspace_id(self) -> UUID | None:
        """Return the workspace, None for a personal token."""
        return self.token.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The token's id."""
        return ids.encode("ApiToken", self.token.id)

    @resolved
    def name(self) -> str:
        """What it is for."""
        return self.token.name

    @resolved
    def prefix(self) -> str:
        """How its secret begins."""
        return self.token.prefix

    @resolved
    def role(self) -> Role:
        """The most that it may do."""
        return self.token.role

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink | None:
        """Its workspace; null for a personal token."""
        workspace_id = self.token.workspace_id
        return await links.workspace(info.context, workspace_id) if workspace_id is not None else None

    @resolved
    async def account(self, info: Info) -> AccountLink | None:
        """The person that it stands for; null for a service token."""
        return await links.account(info.context, self.token.account_id)

    @resolved
    def allowed_models(self) -> list[ModelKey] | None:
        """The models that it may call; null: every model of the workspace."""
        models = self.token.allowed_models
        return [ModelKey.of(key) for key in models] if models is not None else None

    @resolved
    def credential_ids(self) -> list[strawberry.ID] | None:
        """The credentials that it may pin without CREDENTIAL_READ; null: none."""
        workspace_id, listed = self.token.workspace_id, self.token.credential_ids
        if workspace_id is None or listed is None:
            return None
        return [ids.credential_id(workspace_id, one) for one in listed]

    @resolved
    async def budget(self, info: Info) -> Budget | None:
        """The most that its calls may cost; null: no budget."""
        found = await info.context.load.budget(self.token.id)
        return Budget(budget=found) if found is not None else None

    @resolved
    def requests_per_minute(self) -> int | None:
        """How many calls it may make in any minute; null: as many as it likes."""
        return self.token.requests_per_minute

    @resolved
    def tokens_per_minute(self) -> int | None:
        """How many tokens its calls may use in any minute, by an estimate until a call has ended; null: as many as they like."""
        return self.token.tokens_per_minute

    @resolved
    def expires_at(self) -> datetime | None:
        """When it ends by itself; null: never."""
        return self.token.expires_at

    @resolved
    def last_used_at(self) -> datetime | None:
        """When a call was last made with it, up to a minute late; null: never."""
        return self.token.last_used_at

    @resolved
    def revoked_at(self) -> datetime | None:
        """When it was revoked; null: it was not."""
        return self.token.revoked_at

    @resolved
    def created_at(self) -> datetime:
        """When it was made."""
        return self.token.created_at

    @resolved
    async def created_by(self, info: Info) -> AccountLink | None:
        """Who made it; null where a service token did."""
        return await links.account(info.context, self.token.created_by)


async def token_page(
    context: Context, workspace_id: UUID, page: Page, *, include_revoked: bool
) -> Connection[ApiToken]:
    """Return a page of the workspace's tokens, newest first."""
    async with context.app.storage.read() as tx:
        found = await tx.tokens.page(
            rows_of(page), workspace_id=workspace_id, account_id=None, include_revoked=include_revoked
        )
    return row_page(found, lambda one: ApiToken(token=one), lambda one: one.id)


async def own_token_page(context: Context, page: Page, *, include_revoked: bool) -> Connection[ApiToken]:
    """Return a page of the tokens that stand for the viewer's account, newest first; of its workspace for one of it.

    Raises:
        Forbidden: the viewer is no person.
    """
    viewer = context.who
    if viewer.account_id is None:
        raise Forbidden("A service token stands for no person, who would have tokens.")
    async with context.app.storage.read() as tx:
        found = await tx.tokens.page(
            rows_of(page),
            workspace_id=viewer.workspace_id,
            account_id=viewer.account_id,
            include_revoked=include_revoked,
        )
    return row_page(found, lambda one: ApiToken(token=one), lambda one: one.id)


# ---- mutations


@input_type
class CreateApiTokenInput:
    """What a new token is to be."""

    workspace_id: strawberry.ID | None = attribute("Its workspace; left out, a personal token is made.", default=None)
    service: bool | None = attribute(
        "Whether it stands for no person and outlives its maker's membership. Needs TOKEN_MANAGE.",
        default=False,
    )
    name: str = attribute("What it is for, 1 to 64 characters.")
    role: Role = attribute("The most that it may do; not above your own.")
    allowed_models: list[ModelKeyInput] | None = attribute("The only models that it may call.", default=None)
    credential_ids: list[strawberry.ID] | None = attribute(
        "Credentials that it may pin without CREDENTIAL_READ. Needs CREDENTIAL_READ.", default=None
    )
    budget: BudgetInput | None = attribute("The most that its calls may cost.", default=None)
    requests_per_minute: int | None = attribute("How many calls it may make in any minute.", default=None)
    tokens_per_minute: int | None = attribute("How many tokens its calls may use in any minute.", default=None)
    expires_at: datetime | None = attribute("When it ends by itself; left out: never.", default=None)

    def entered(self) -> NewToken:
        """Return what core takes.

        Raises:
            InvalidInput: a list is too long.
            NotFound: an id is none.
        """
        return NewToken(
            name=self.name,
            role=self.role,
            workspace_id=ids.optional_uuid(self.workspace_id, "Workspace", ("workspaceId",)),
            service=bool(self.service),
            allowed_models=_models(self.allowed_models),
            credential_ids=_credentials(self.credential_ids),
            budget=self.budget.entered() if self.budget is not None else None,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            expires_at=self.expires_at,
        )


@input_type
class UpdateApiTokenInput:
    """What is to change of a token: what is left out stays, null clears."""

    id: strawberry.ID = attribute("The token's id.")
    name: str | None = attribute("What it is for, 1 to 64 characters.", default=strawberry.UNSET)
    allowed_models: list[ModelKeyInput] | None = attribute(
        "The only models that it may call; null: every model of the workspace.", default=strawberry.UNSET
    )
    credential_ids: list[strawberry.ID] | None = attribute(
        "Credentials that it may pin without CREDENTIAL_READ. Needs CREDENTIAL_READ.", default=strawberry.UNSET
    )
    budget: BudgetInput | None = attribute(
        "The most that its calls may cost; null: no budget. Another limit keeps what is spent, and one below that "
        "refuses every call until the next period; another currency or period begins anew.",
        default=strawberry.UNSET,
    )
    requests_per_minute: int | None = attribute(
        "How many calls it may make in any minute; null: as many as it likes.", default=strawberry.UNSET
    )
    tokens_per_minute: int | None = attribute(
        "How many tokens its calls may use in any minute; null: as many as they like.", default=strawberry.UNSET
    )
    expires_at: datetime | None = attribute("When it ends by itself; null: never.", default=strawberry.UNSET)

    def entered(self) -> TokenChange:
        """Return what core takes.

        Raises:
            InvalidInput: a list is too long, or the name is cleared.
            NotFound: an id is none.
        """
        if self.name is None:
            raise InvalidInput("A token has a name: leave `name` out to keep it.", path=("name",))
        return TokenChange(
            name=KEEP if self.name is strawberry.UNSET else self.name,
            allowed_models=KEEP if self.allowed_models is strawberry.UNSET else _models(self.allowed_models),
            credential_ids=KEEP if self.credential_ids is strawberry.UNSET else _credentials(self.credential_ids),
            budget=KEEP if self.budget is strawberry.UNSET else self.budget.entered() if self.budget else None,
            requests_per_minute=(KEEP if self.requests_per_minute is strawberry.UNSET else self.requests_per_minute),
            tokens_per_minute=KEEP if self.tokens_per_minute is strawberry.UNSET else self.tokens_per_minute,
            expires_at=KEEP if self.expires_at is strawberry.UNSET else self.expires_at,
        )


def _models(given: list[ModelKeyInput] | None) -> tuple[CoreModelKey, ...] | None:
    return None if given is None else tuple(one.key() for one in _bounded(given, "allowedModels"))


def _credentials(given: list[strawberry.ID] | None) -> tuple[UUID, ...] | None:
    if given is None:
        return None
    listed = enumerate(_bounded(given, "credentialIds"))
    return tuple(ids.given_credential(one, ("credentialIds", str(number))) for number, one in listed)


def _bounded(given: list[T], name: str) -> list[T]:
    if len(given) > MAX_LISTED:
        raise InvalidInput(f"`{name}` has at most {MAX_LISTED} entries.", path=(name,))
    return given


@input_type
class RevokeApiTokenInput:
    """Which token is to end."""

    id: strawberry.ID = attribute("The token's id.")


@object_type
class ApiTokenPayload:
    """What came of a change of a token."""

    api_token: ApiToken | None = attribute("The token as it is now; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@object_type
class CreateApiTokenPayload:
    """What came of making a token."""

    api_token: ApiToken | None = attribute("The new token; null when it failed.", default=None)
    secret: str | None = attribute("The bearer secret, shown this once; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class TokenMutations:
    """Changes of tokens."""

    @mutation(CreateApiTokenPayload)
    async def create_api_token(self, info: Info, input: Annotated[CreateApiTokenInput, INPUT]) -> CreateApiTokenPayload:
        """Makes a token: personal, of a workspace for yourself, or with TOKEN_MANAGE a service token."""
        token, secret = await create_token(info.context.app, info.context.who, input.entered())
        return CreateApiTokenPayload(api_token=ApiToken(token=token), secret=secret.reveal(), errors=[])

    @mutation(ApiTokenPayload)
    async def update_api_token(self, info: Info, input: Annotated[UpdateApiTokenInput, INPUT]) -> ApiTokenPayload:
        """Changes the name, the limits or the end of a token: your own, or with TOKEN_MANAGE one of the workspace."""
        token_id = ids.given_uuid(input.id, "ApiToken")
        token = await update_token(info.context.app, info.context.who, token_id, input.entered())
        return ApiTokenPayload(api_token=ApiToken(token=token), errors=[])

    @mutation(ApiTokenPayload)
    async def revoke_api_token(self, info: Info, input: Annotated[RevokeApiTokenInput, INPUT]) -> ApiTokenPayload:
        """Ends a token at once: your own, or with TOKEN_MANAGE one of the workspace."""
        token_id = ids.given_uuid(input.id, "ApiToken")
        token = await revoke_token(info.context.app, info.context.who, token_id)
        return ApiTokenPayload(api_token=ApiToken(token=token), errors=[])
