"""The audit log: who changed what."""

from collections.abc import Callable, Mapping
from datetime import datetime
from uuid import UUID

import strawberry

from core import entities
from core.model_types import ModelKey, ModelType
from core.ports.paging import Slice
from graph import ids, links
from graph.connections import LongConnection, Page, long_row_page, rows_of
from graph.context import Context, Info
from graph.links import AccountLink, ApiTokenLink
from graph.scalars import JSON
from graph.types import Node, object_type, resolved


@object_type
class AuditEntry(Node):
    """A change: who made it, when, and what it was before. It outlives whom and what it names."""

    entry: strawberry.Private[entities.AuditEntry]

    @property
    def workspace_id(self) -> UUID | None:
        """Return the workspace."""
        return self.entry.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The entry's id."""
        return ids.encode("AuditEntry", self.entry.id)

    @resolved
    def at(self) -> datetime:
        """When it was changed."""
        return self.entry.at

    @resolved
    async def actor(self, info: Info) -> AccountLink | None:
        """The person who changed it; null for a service token, and where the account is gone."""
        return await links.account(info.context, self.entry.account_id, self.entry.workspace_id)

    @resolved
    async def token(self, info: Info) -> ApiTokenLink | None:
        """The token that it was changed with; null where it is gone."""
        return await links.api_token(info.context, self.entry.token_id)

    @resolved
    def action(self) -> str:
        """What was done: a noun and a verb, such as `member.update`."""
        return self.entry.action

    @resolved
    def subject_id(self) -> strawberry.ID | None:
        """The id of what was changed, which may be gone; null where it has none."""
        subject, workspace_id = self.entry.subject, self.entry.workspace_id
        return id_of(workspace_id, subject) if subject is not None and workspace_id is not None else None

    @resolved
    def summary(self) -> str:
        """The change in a sentence."""
        return self.entry.summary

    @resolved
    def changes(self) -> JSON | None:
        """What differs: by field, the value before (`from`) and after (`to`); null where there is nothing to tell. Never a secret."""
        return self.entry.changes


async def audit_page(
    context: Context, workspace_id: UUID, page: Page, *, action: str | None, subject_id: str | None
) -> LongConnection[AuditEntry]:
    """Return a page of the changes in a workspace, newest first."""
    subject = subject_of(workspace_id, subject_id) if subject_id is not None else None
    if subject_id is not None and subject is None:
        return long_row_page(_NOTHING, lambda one: AuditEntry(entry=one), lambda one: one.id)
    async with context.app.storage.read() as tx:
        found = await tx.audit.page(workspace_id, rows_of(page), action=action, subject=subject)
    return long_row_page(found, lambda one: AuditEntry(entry=one), lambda one: one.id)


_NOTHING: Slice[entities.AuditEntry] = Slice(items=(), has_next=False, has_previous=False, total=0)


# ---- how the log names its subjects: a type and a key, `Model:openai/LLM/gpt-4o` or `Member:` and a UUID


def id_of(workspace_id: UUID, subject: str) -> strawberry.ID | None:
    """Return the id of what an entry of a workspace names; None if it names nothing that has one."""
    type_name, _, key = subject.partition(":")
    return _IDS.get(type_name, _plain_id)(workspace_id, type_name, key)


def subject_of(workspace_id: UUID, id_: str) -> str | None:
    """Return what the entries of a workspace call the object of this id; None if it is of another, or no id."""
    decoded = ids.decode(id_)
    if decoded is None:
        return None
    type_name, parts = decoded
    model = ids.model_of(parts) if type_name == "Model" else None
    if model is not None:
        subject = f"Model:{model[1].provider}/{model[1].type}/{model[1].name}"
    else:
        key = ids.uuid_of(parts[-1])
        subject = f"{type_name}:{key or parts[-1]}"
    return subject if id_of(workspace_id, subject) == id_ else None


def _plain_id(workspace_id: UUID, type_name: str, key: str) -> strawberry.ID | None:
    try:
        return ids.encode(type_name, UUID(key))
    except ValueError:
        return None


def _within_id(workspace_id: UUID, type_name: str, key: str) -> strawberry.ID | None:
    try:
        return ids.encode(type_name, workspace_id, UUID(key))
    except ValueError:
        return None


def _provider_id(workspace_id: UUID, type_name: str, key: str) -> strawberry.ID | None:
    return ids.encode(type_name, workspace_id, key)


def _model_id(workspace_id: UUID, type_name: str, key: str) -> strawberry.ID | None:
    provider, _, rest = key.partition("/")
    model_type, _, name = rest.partition("/")
    if model_type not in ModelType.__members__:
        return None
    return ids.model_id(workspace_id, ModelKey(provider=provider, type=ModelType(model_type), name=name))


_IDS: Mapping[str, Callable[[UUID, str, str], strawberry.ID | None]] = {
    "Credential": _within_id,
    "Model": _model_id,
    "Pool": _within_id,
    "PoolMember": _within_id,
    "Provider": _provider_id,
}
"""How the key of an entry becomes an id, where that is more than the type and a UUID."""
