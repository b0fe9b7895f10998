"""Envelope sealing: data keys wrapped by key-encryption keys, values sealed by data keys, each bound to its row."""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import CredentialUnreadable
from core.provider import Values
from core.secret import Secret

_NONCE_BYTES = 12
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A data key as it is stored. `kek_id` names the key-encryption key that wraps it."""

    workspace_id: UUID
    version: int
    kek_id: str
    data: bytes


class _Opened(msgspec.Struct, frozen=True):
    """The value map as it is sealed: what may be shown apart from what may not."""

    plain: dict[str, str]
    secret: dict[str, str]


_decode = msgspec.json.Decoder(_Opened).decode


class DataKey:
    """An unwrapped key of one workspace, which seals and opens value maps."""

    def __init__(self, workspace_id: UUID, version: int, key: bytes) -> None:
        self.workspace_id = workspace_id
        self.version = version
        self._aead = AESGCM(key)

    def seal(self, credential_id: UUID, values: Values) -> bytes:
        """Return the values sealed and bound to the credential."""
        opened = _Opened(
            plain={name: value for name, value in values.items() if isinstance(value, str)},
            secret={name: value.reveal() for name, value in values.items() if isinstance(value, Secret)},
        )
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, msgspec.json.encode(opened), self._binding(credential_id))

    def open(self, credential_id: UUID, sealed: bytes) -> Values:
        """Return the values in clear; CredentialUnreadable if they were changed or moved, or sealed by another key."""
        try:
            clear = self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._binding(credential_id))
            opened = _decode(clear)
        except (InvalidTag, ValueError, msgspec.MsgspecError) as error:
            raise CredentialUnreadable(
                "The stored values of this credential cannot be opened; enter them again."
            ) from error
        return opened.plain | {name: Secret(value) for name, value in opened.secret.items()}

    def opens(self, credential_id: UUID, sealed: bytes) -> bool:
        """Tell whether these sealed values can be opened."""
        try:
            self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self._binding(credential_id))
        except (InvalidTag, ValueError):
            return False
        return True

    def _binding(self, credential_id: UUID) -> bytes:
        return self.workspace_id.bytes + credential_id.bytes + self.version.to_bytes(4, "big")


class Cipher:
    """Makes and unwraps data keys. The first key-encryption key is the current one."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        if not keys:
            raise ValueError("at least one key-encryption key is needed")
        decoded = [base64.b64decode(key.reveal()) for key in keys]
        self.current = _key_id(decoded[0])
        self._aeads = {_key_id(key): AESGCM(key) for key in decoded}

    def new_key(self, workspace_id: UUID, version: int) -> WrappedKey:
        """Return a new random data key, wrapped by the current key-encryption key."""
        return self._wrapped(workspace_id, version, os.urandom(_KEY_BYTES))

    def unwrap(self, key: WrappedKey) -> DataKey:
        """Return the data key; CredentialUnreadable if its key-encryption key is not at hand or it was changed."""
        return DataKey(key.workspace_id, key.version, self._clear(key))

    def rewrap(self, key: WrappedKey) -> WrappedKey:
        """Return the same data key, wrapped by the current key-encryption key. CredentialUnreadable as `unwrap`."""
        return self._wrapped(key.workspace_id, key.version, self._clear(key))

    def _wrapped(self, workspace_id: UUID, version: int, clear: bytes) -> WrappedKey:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._aeads[self.current].encrypt(nonce, clear, _owner(workspace_id, version))
        return WrappedKey(workspace_id=workspace_id, version=version, kek_id=self.current, data=nonce + sealed)

    def _clear(self, key: WrappedKey) -> bytes:
        aead = self._aeads.get(key.kek_id)
        if aead is None:
            raise CredentialUnreadable(
                f"The key-encryption key {key.kek_id} is not at hand; add it to MODELYARD_ENCRYPTION_KEYS."
            )
        try:
            return aead.decrypt(key.data[:_NONCE_BYTES], key.data[_NONCE_BYTES:], _owner(key.workspace_id, key.version))
        except (InvalidTag, ValueError) as error:
            raise CredentialUnreadable("The key of this workspace cannot be unwrapped.") from error


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).digest()[:8].hex()


def _owner(workspace_id: UUID, version: int) -> bytes:
    return b"data key" + workspace_id.bytes + version.to_bytes(4, "big")
