"""Global ids: opaque, url-safe text that names a type and its key, and never changes."""

import base64
import binascii
from uuid import UUID

import strawberry

from core.errors import NotFound
from core.ids import public_id
from core.model_types import ModelKey, ModelType

MAX_LENGTH = 2048
"""No id is longer: a model's name has at most 200 characters."""


def encode(type_name: str, *parts: str | UUID) -> strawberry.ID:
    """Return the id of an object; the parts are its key."""
    return strawberry.ID(public_id(type_name, *parts))


def decode(text: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the type and the key that an id names; None for anything that `encode` has not made."""
    if not text or len(text) > MAX_LENGTH:
        return None
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    type_name, *parts = decoded.split("\0")
    if not type_name or not parts or encode(type_name, *parts) != text:
        return None
    return type_name, tuple(parts)


def uuid_of(part: str) -> UUID | None:
    """Return the UUID of a part; None if it is none."""
    try:
        found = UUID(hex=part)
    except ValueError:
        return None
    return found if found.hex == part else None


def given_uuid(text: str, type_name: str, path: tuple[str, ...] = ("id",)) -> UUID:
    """Return the key of an id in an input.

    Raises:
        NotFound: it is no id of that type.
    """
    key = key_of(text, type_name)
    if key is None:
        raise NotFound(f"There is no {type_name} of this id, or it is not one of yours.", path=path)
    return key


def optional_uuid(text: str | None, type_name: str, path: tuple[str, ...]) -> UUID | None:
    """Return the key of an id in an input that may be left out."""
    return None if text is None else given_uuid(text, type_name, path)


def model_id(workspace_id: UUID, key: ModelKey) -> strawberry.ID:
    """Return the id of a model; a predefined one has it before it has a row."""
    return encode("Model", workspace_id, key.provider, key.type.value, key.name)


def model_of(parts: tuple[str, ...]) -> tuple[UUID, ModelKey] | None:
    """Return the workspace and key that the parts of a model's id name."""
    if len(parts) != 4 or parts[2] not in ModelType.__members__:
        return None
    workspace_id = uuid_of(parts[0])
    if workspace_id is None:
        return None
    return workspace_id, ModelKey(provider=parts[1], type=ModelType(parts[2]), name=parts[3])


def given_model(text: str, path: tuple[str, ...] = ("id",)) -> tuple[UUID, ModelKey]:
    """Return the workspace and key of a model's id in an input.

    Raises:
        NotFound: it is no model's id.
    """
    found = decode(text)
    model = model_of(found[1]) if found is not None and found[0] == "Model" else None
    if model is None:
        raise NotFound("There is no model of this id, or it is not one of yours.", path=path)
    return model


def credential_id(workspace_id: UUID, credential: UUID) -> strawberry.ID:
    """Return the id of a credential; it names the workspace, so that finding it is one look."""
    return encode("Credential", workspace_id, credential)


def pair_of(parts: tuple[str, ...]) -> tuple[UUID, UUID] | None:
    """Return the workspace and key that the parts of an id name."""
    keys = [uuid_of(part) for part in parts]
    if len(keys) != 2 or keys[0] is None or keys[1] is None:
        return None
    return keys[0], keys[1]


def given_credential(text: str, path: tuple[str, ...] = ("id",)) -> UUID:
    """Return the key of a credential's id in an input.

    Raises:
        NotFound: it is no credential's id.
    """
    return given_pair(text, "Credential", path)[1]


def given_pair(text: str, type_name: str, path: tuple[str, ...] = ("id",)) -> tuple[UUID, UUID]:
    """Return the workspace and key of an id that names both, in an input.

    Raises:
        NotFound: it is no id of that type.
    """
    found = decode(text)
    keys = pair_of(found[1]) if found is not None and found[0] == type_name else None
    if keys is None:
        raise NotFound(f"There is no {type_name} of this id, or it is not one of yours.", path=path)
    return keys


def key_of(text: str, type_name: str) -> UUID | None:
    """Return the key that an id of this type names; None for anything else."""
    found = decode(text)
    return uuid_of(found[1][0]) if found is not None and found[0] == type_name and len(found[1]) == 1 else None
