"""What is told of a change: of which object, in which way; and what differs between two configurations."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from core.configuration import Configuration


class ChangeKind(StrEnum):
    """What happened to an object. CURRENT: nothing; it is how a follower learns what is there."""

    CURRENT = "CURRENT"
    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


class Noun(StrEnum):
    """What can be followed."""

    CREDENTIAL = "CREDENTIAL"
    PROVIDER = "PROVIDER"
    POOL = "POOL"
    QUOTA = "QUOTA"
    ORDER = "ORDER"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """That an object of a workspace has changed. `key` is its UUID as text, of a provider its name.

    `status` is the one that this very change gave the object, for those that pass through some quickly. `version` is
    that of the workspace's configuration by then, 0 where the change is not of it. Whoever hears of the change reads
    the rest by themselves, so that nothing here can be old or secret.
    """

    workspace_id: UUID
    noun: Noun
    key: str
    kind: ChangeKind = ChangeKind.UPDATED
    status: str | None = None
    version: int = 0

    @property
    def channel(self) -> str:
        """Return where the change is told."""
        return channel_of(self.workspace_id)

    def to_message(self) -> bytes:
        """Return what is sent."""
        return _encode(self)


def channel_of(workspace_id: UUID) -> str:
    """Return where the changes of a workspace are told."""
    return f"modelyard:changes:{workspace_id.hex}"


def from_message(message: bytes) -> Change | None:
    """Return the change that a message tells of; None if it is none of ours."""
    try:
        return _decode(message)
    except msgspec.DecodeError:
        return None


def differences(before: Configuration, after: Configuration) -> Iterator[Change]:
    """Yield what has changed between two configurations of a workspace: its credentials, its pools, then its providers.

    A credential changes with its row and when it becomes, or is no longer, the active one.
    """
    workspace_id = after.workspace_id
    was_active, is_active = _active(before), _active(after)
    for credential_id in dict.fromkeys((*before.credentials, *after.credentials)):
        old, new = before.credentials.get(credential_id), after.credentials.get(credential_id)
        moved = (credential_id in was_active) is not (credential_id in is_active)
        if old == new and not moved:
            continue
        yield Change(
            workspace_id=workspace_id,
            noun=Noun.CREDENTIAL,
            key=str(credential_id),
            kind=ChangeKind.CREATED if old is None else ChangeKind.DELETED if new is None else ChangeKind.UPDATED,
        )
    yield from _pools(before, after, was_active, is_active)
    touched = {provider for old, new in _parts(before, after) for provider in _differing(old, new)}
    for provider in sorted(touched):
        yield Change(workspace_id=workspace_id, noun=Noun.PROVIDER, key=provider)


def _active(configuration: Configuration) -> set[UUID]:
    of_providers = (row.active_credential_id for row in configuration.providers.values())
    of_models = (row.active_credential_id for row in configuration.models.values())
    return {active for active in (*of_providers, *of_models) if active is not None}


def _pools(
    before: Configuration, after: Configuration, was_active: set[UUID], is_active: set[UUID]
) -> Iterator[Change]:
    """Yield the pools that differ, or of which a member stands otherwise."""
    moved = was_active ^ is_active
    old, new = ({pool.id: pool for pool in one.pools.values()} for one in (before, after))
    for pool_id in dict.fromkeys((*old, *new)):
        pool = new.get(pool_id) or old[pool_id]
        members = {member.credential_id for member in pool.members}
        if None in members:  # it stands for whatever is active
            members |= was_active | is_active
        if (
            old.get(pool_id) == new.get(pool_id)
            and all(before.credentials.get(one) == after.credentials.get(one) for one in members if one is not None)
            and not any(
                after.credentials[one].provider == pool.key.provider for one in moved if one in after.credentials
            )
        ):
            continue
        yield Change(
            workspace_id=after.workspace_id,
            noun=Noun.POOL,
            key=str(pool_id),
            kind=ChangeKind.CREATED
            if pool_id not in old
            else ChangeKind.DELETED
            if pool_id not in new
            else ChangeKind.UPDATED,
        )


def _parts(before: Configuration, after: Configuration) -> Iterator[tuple[dict[Any, Any], dict[Any, Any]]]:
    """Yield the parts that belong to providers, as they were and as they are, each by its provider and key."""
    for name in ("providers", "credentials", "models", "settings", "defaults", "pools"):
        yield tuple(  # type: ignore[misc]
            {_keyed(name, key, value): value for key, value in getattr(configuration, name).items()}
            for configuration in (before, after)
        )


def _keyed(part: str, key: Any, value: Any) -> tuple[str, Any]:
    """Return a key whose first part is the provider that it belongs to."""
    match part:
        case "providers":
            return value.name, key
        case "credentials" | "defaults":
            return value.provider, key
        case _:
            return key.provider, key


def _differing(old: dict[Any, Any], new: dict[Any, Any]) -> set[str]:
    return {key[0] for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Change).decode
