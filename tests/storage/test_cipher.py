"""Sealing: what opens, and everything that must not."""

import base64
import os
from uuid import UUID

import pytest

from core.errors import CredentialUnreadable
from core.ids import uuid7
from core.provider import Values
from core.secret import Secret
from storage.cipher import Cipher, DataKey, WrappedKey

VALUES: Values = {"api_key": Secret("sk-secret"), "base_url": "https://example.com", "empty": ""}


def _kek() -> Secret:
    return Secret(base64.b64encode(os.urandom(32)).decode())


def _key(cipher: Cipher, workspace_id: UUID | None = None, version: int = 1) -> DataKey:
    return cipher.unwrap(cipher.new_key(workspace_id or uuid7(), version))


def test_what_was_sealed_opens_with_its_secrets_closed() -> None:
    key, credential_id = _key(Cipher([_kek()])), uuid7()

    opened = key.open(credential_id, key.seal(credential_id, VALUES))

    assert opened == VALUES
    assert isinstance(opened["api_key"], Secret)
    assert isinstance(opened["base_url"], str)


def test_nothing_of_the_values_or_their_names_shows_in_the_sealed_bytes() -> None:
    sealed = _key(Cipher([_kek()])).seal(uuid7(), VALUES)

    assert b"sk-secret" not in sealed
    assert b"api_key" not in sealed
    assert b"example.com" not in sealed


def test_the_same_values_never_seal_to_the_same_bytes() -> None:
    key, credential_id = _key(Cipher([_kek()])), uuid7()

    assert len({key.seal(credential_id, VALUES) for _ in range(100)}) == 100


def test_a_record_does_not_open_in_another_row_workspace_or_key_version() -> None:
    cipher, workspace_id, credential_id = Cipher([_kek()]), uuid7(), uuid7()
    wrapped = cipher.new_key(workspace_id, 1)
    sealed = cipher.unwrap(wrapped).seal(credential_id, VALUES)

    with pytest.raises(CredentialUnreadable):
        cipher.unwrap(wrapped).open(uuid7(), sealed)
    with pytest.raises(CredentialUnreadable):
        _key(cipher, workspace_id, 1).open(credential_id, sealed)
    with pytest.raises(CredentialUnreadable):
        _key(cipher, workspace_id, 2).open(credential_id, sealed)


def test_every_changed_byte_and_every_cut_is_found() -> None:
    key, credential_id = _key(Cipher([_kek()])), uuid7()
    sealed = key.seal(credential_id, VALUES)

    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(CredentialUnreadable):
            key.open(credential_id, bytes(changed))
        with pytest.raises(CredentialUnreadable):
            key.open(credential_id, sealed[:place])


def test_a_data_key_does_not_unwrap_for_another_workspace_or_version() -> None:
    cipher, workspace_id = Cipher([_kek()]), uuid7()
    wrapped = cipher.new_key(workspace_id, 1)

    for moved in (
        WrappedKey(workspace_id=uuid7(), version=1, kek_id=wrapped.kek_id, data=wrapped.data),
        WrappedKey(workspace_id=workspace_id, version=2, kek_id=wrapped.kek_id, data=wrapped.data),
    ):
        with pytest.raises(CredentialUnreadable):
            cipher.unwrap(moved)


def test_an_older_key_encryption_key_still_unwraps_and_new_keys_take_the_first() -> None:
    old, new = _kek(), _kek()
    wrapped = Cipher([old]).new_key(uuid7(), 1)
    both = Cipher([new, old])

    assert both.unwrap(wrapped).version == 1
    assert both.new_key(uuid7(), 1).kek_id == both.current != wrapped.kek_id


def test_a_key_encryption_key_that_is_not_at_hand_is_named_by_its_id() -> None:
    wrapped = Cipher([_kek()]).new_key(uuid7(), 1)

    with pytest.raises(CredentialUnreadable, match=wrapped.kek_id):
        Cipher([_kek()]).unwrap(wrapped)
