"""Rows that tests of storage begin with."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from core.access import Role
from core.app import App
from core.entities import Account, ApiToken, Credential, CredentialStatus, Invocation, Member, Workspace
from core.ids import id_of, uuid7
from core.jobs import Job
from core.model_types import ModelKey, ModelType
from core.model_types.llm import ProviderType
from core.provider import Values
from core.secret import Secret, hash_secret, new_secret
from storage.outbox import outbox
from storage.transaction import SqlTransaction

KEY = ModelKey(provider="openai", name="gpt-4o", type=ModelType.LLM)
VALUES: Values = {"api_key": Secret("sk-canary-3f9c2a71d04e"), "base_url": "https://api.example.com"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A workspace with its owner and their personal token."""

    workspace: Workspace
    account: Account
    token: ApiToken
    secret: Secret

    @property
    def id(self) -> UUID:
        return self.workspace.id


def account(name: str = "ada", **changed: Any) -> Account:
    made = Account(id=uuid7(), name=name, email=f"{name}-{uuid7()}@example.com", is_operator=False, created_at=_now())
    return replace(made, **changed)


def workspace(name: str = "acme", **changed: Any) -> Workspace:
    id_ = uuid7()
    made = Workspace(
        id=id_,
        name=name,
        slug=f"{name}-{id_}",
        key_version=1,
        config_version=1,
        created_at=_now(),
        updated_at=_now(),
    )
    return replace(made, **changed)


def token(**changed: Any) -> ApiToken:
    made = ApiToken(
        id=uuid7(),
        name="token",
        prefix="my_abcdef",
        role=Role.OWNER,
        workspace_id=None,
        account_id=None,
        allowed_models=None,
        credential_ids=None,
        expires_at=None,
        last_used_at=None,
        revoked_at=None,
        created_at=_now(),
        created_by=None,
    )
    return replace(made, **changed)


async def tenant(app: App, name: str = "acme", *, is_operator: bool = False) -> Tenant:
    """Insert a workspace with an owner who has a personal token."""
    person, place, secret = account(is_operator=is_operator), workspace(name), new_secret()
    bearer = token(account_id=person.id)
    async with app.storage.transaction() as tx:
        await tx.accounts.insert(person)
        await tx.workspaces.insert(place)
        await tx.members.insert(member(place.id, person.id, Role.OWNER))
        await tx.tokens.insert(bearer, hash_secret(secret.reveal()))
    return Tenant(workspace=place, account=person, token=bearer, secret=secret)


def member(workspace_id: UUID, account_id: UUID, role: Role) -> Member:
    return Member(id=uuid7(), workspace_id=workspace_id, account_id=account_id, role=role, created_at=_now())


async def insert_token(app: App, bearer: ApiToken) -> bytes:
    """Insert a token and return the hash of its secret."""
    secret_hash = hash_secret(new_secret().reveal())
    async with app.storage.transaction() as tx:
        await tx.tokens.insert(bearer, secret_hash)
    return secret_hash


async def credential(
    app: App, workspace_id: UUID, name: str = "main", *, values: Values = VALUES, **changed: Any
) -> Credential:
    """Insert a sealed credential, raising the configuration's version."""
    id_ = uuid7()
    async with app.storage.transaction() as tx:
        await tx.workspaces.touch(workspace_id)
        made = Credential(
            id=id_,
            workspace_id=workspace_id,
            provider="openai",
            model=None,
            name=name,
            status=CredentialStatus.VALID,
            problem=None,
            sealed=await app.vault.seal(tx, workspace_id, id_, values),
            version=1,
            validated_at=_now(),
            last_used_at=None,
            created_at=_now(),
            updated_at=_now(),
        )
        made = replace(made, **changed)
        await tx.credentials.insert(made)
    return made


def invocation(app: App, of: Tenant, **changed: Any) -> Invocation:
    """Return a running invocation of a tenant's owner, whose id carries its time."""
    made = Invocation(
        id=id_of(changed.get("started_at") or app.clock.now()),
        workspace_id=of.id,
        model=KEY,
        provider_type=ProviderType.CUSTOM,
        credential_id=None,
        credential_name=None,
        token_id=of.token.id,
        account_id=of.account.id,
        owner=app.process_id,
        started_at=app.clock.now(),
    )
    return replace(made, **changed)


def _now() -> datetime:
    from tests.conftest import MovableClock

    return MovableClock().now()


async def added_job(app: App, job: Job) -> UUID:
    """Write a job into the outbox; return the id of its row."""
    async with app.storage.transaction() as tx:
        await tx.outbox.add(job)
        assert isinstance(tx, SqlTransaction)
        row = await tx.connection.row(select(outbox.c.id).where(outbox.c.key == job.key))
    assert row is not None
    return UUID(str(row.id))
