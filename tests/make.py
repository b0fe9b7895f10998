"""Builders of core values for tests: each gives a valid one, with what the test says changed."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from core.access import Membership, Role, Viewer
from core.configuration import Configuration
from core.entities import (
    Credential,
    CredentialStatus,
    ModelRow,
    ModelSource,
    Pool,
    PoolMember,
    PoolStrategy,
    ProviderRow,
    Quota,
    QuotaType,
    QuotaUnit,
    Sealed,
)
from core.ids import uuid7
from core.model_types import ModelKey, ModelType
from core.model_types.llm import ChatRequest, Message, Text
from core.model_types.llm import Role as MessageRole

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WORKSPACE = UUID("01900000-0000-7000-8000-000000000001")


def key(name: str = "gpt-4o", provider: str = "openai", type: ModelType = ModelType.LLM) -> ModelKey:
    """Return a model key."""
    return ModelKey(provider=provider, name=name, type=type)


def credential(
    name: str = "main", provider: str = "openai", model: ModelKey | None = None, **changed: Any
) -> Credential:
    """Return a VALID credential."""
    made = Credential(
        id=uuid7(),
        workspace_id=WORKSPACE,
        provider=provider,
        model=model,
        name=name,
        status=CredentialStatus.VALID,
        problem=None,
        sealed=Sealed(key_version=1, data=b""),
        version=1,
        validated_at=NOW,
        last_used_at=None,
        created_at=NOW,
        updated_at=NOW,
    )
    return replace(made, **changed)


def quota(
    type: QuotaType = QuotaType.TRIAL, *, provider: str | None = "openai", limit: int | None = 10, **changed: Any
) -> Quota:
    """Return a quota of TIMES with nothing used."""
    made = Quota(id=uuid7(), provider=provider, type=type, unit=QuotaUnit.TIMES, limit=limit, used=0, reserved=0)
    return replace(made, **changed)


def pool(model: ModelKey, members: Iterable[PoolMember], *, enabled: bool = True) -> Pool:
    """Return a round-robin pool."""
    return Pool(id=uuid7(), key=model, enabled=enabled, strategy=PoolStrategy.ROUND_ROBIN, members=tuple(members))


def member(of: Credential | None, **changed: Any) -> PoolMember:
    """Return an enabled member; of None it is the Default Config."""
    made = PoolMember(
        id=uuid7(), credential_id=of.id if of is not None else None, name=of.name if of else "Default Config"
    )
    return replace(made, **changed)


def configuration(
    *credentials: Credential,
    active: Iterable[Credential] = (),
    models: Iterable[ModelRow] = (),
    pools: Iterable[Pool] = (),
    **more: Any,
) -> Configuration:
    """Return a configuration with these credentials, those of `active` being the active ones of their level."""
    providers = {
        one.provider: ProviderRow(name=one.provider, active_credential_id=one.id) for one in active if one.model is None
    }
    rows = {row.key: row for row in models}
    for one in active:
        if one.model is not None:
            row = rows.get(one.model) or model_row(one.model, ModelSource.PREDEFINED)
            rows[one.model] = replace(row, active_credential_id=one.id)
    return Configuration(
        workspace_id=WORKSPACE,
        version=1,
        providers={**providers, **more.pop("providers", {})},
        credentials={one.id: one for one in credentials},
        models=rows,
        pools={one.key: one for one in pools},
        **more,
    )


def model_row(of: ModelKey, source: ModelSource = ModelSource.CUSTOM) -> ModelRow:
    """Return a model's row with no active credential."""
    return ModelRow(key=of, source=source, label=None, active_credential_id=None)


def viewer(role: Role = Role.OWNER, workspace: UUID = WORKSPACE, **changed: Any) -> Viewer:
    """Return a person with a personal token in one workspace."""
    made = Viewer(
        token_id=uuid7(),
        account_id=uuid7(),
        is_operator=False,
        workspace_id=None,
        token_role=role,
        memberships={workspace: Membership(workspace_id=workspace, role=role, version=1)},
    )
    return replace(made, **changed)


def chat(text: str = "Say hello", **changed: Any) -> ChatRequest:
    """Return a request of one user message."""
    return ChatRequest(messages=(Message(role=MessageRole.USER, content=(Text(text=text),)),), **changed)
