"""The vault: seals credential values in a transaction, opens them with keys kept shortly in memory."""

import asyncio
from collections import OrderedDict
from typing import Generic, TypeVar
from uuid import UUID

from core.entities import Credential, Sealed
from core.errors import CredentialUnreadable, NotFound
from core.ports.clock import Clock
from core.ports.transaction import Transaction
from core.provider import Values
from storage.cipher import Cipher, DataKey
from storage.transaction import SqlStorage, SqlTransaction
from storage.workspaces import KEY, NEWEST_KEY, wrapped_key

_KEPT_S = 60.0
_KEYS_KEPT = 4096
_VALUES_KEPT = 4096

K = TypeVar("K")
V = TypeVar("V")


class SqlVault:
    """Seals and opens with the data keys of workspaces.

    An opened value is remembered by its whole ciphertext and place, so a changed record is opened anew.
    """

    def __init__(self, storage: SqlStorage, cipher: Cipher, clock: Clock) -> None:
        self._storage = storage
        self._cipher = cipher
        self._keys: _Kept[tuple[UUID, int], DataKey] = _Kept(clock, limit=_KEYS_KEPT)
        self._reading: dict[tuple[UUID, int], asyncio.Task[DataKey | None]] = {}
        self._values: _Kept[tuple[UUID, UUID, int, bytes], Values] = _Kept(clock, limit=_VALUES_KEPT)

    async def seal(self, tx: Transaction, workspace_id: UUID, credential_id: UUID, values: Values) -> Sealed:
        """Return the values sealed under the newest key of the workspace, bound to the credential."""
        assert isinstance(tx, SqlTransaction)
        row = await tx.connection.row(NEWEST_KEY, {"workspace": workspace_id})
        if row is None:
            raise NotFound("There is no such workspace.")
        key = self._cipher.unwrap(wrapped_key(row))
        return Sealed(key_version=key.version, data=key.seal(credential_id, values))

    def opened(self, credential: Credential) -> Values | None:
        """Return the values where they are at hand, None where `open` has to open them."""
        return self._values.get(_place(credential))

    async def open(self, credential: Credential) -> Values:
        """Return the values in clear, secrets as Secret. CredentialUnreadable if they cannot be opened."""
        sealed, place = credential.sealed, _place(credential)
        values = self._values.get(place)
        if values is None:
            key = await self._key(credential.workspace_id, sealed.key_version)
            if key is None:
                return await self._open_newer(credential)
            values = key.open(credential.id, sealed.data)
            self._values.put(place, values)
        return values

    async def _open_newer(self, credential: Credential) -> Values:
        """Open what stands in the database now: the key of what was read has been replaced, and is gone."""
        async with self._storage.read() as tx:
            newer = await tx.credentials.get(credential.workspace_id, credential.id)
        if newer is None or newer.sealed.key_version == credential.sealed.key_version:
            raise CredentialUnreadable("The key that seals this credential is gone; enter its values again.")
        return await self.open(newer)

    async def _key(self, workspace_id: UUID, version: int) -> DataKey | None:
        """Return a data key; those who want the same one at the same time share a read."""
        place = workspace_id, version
        key = self._keys.get(place)
        if key is not None:
            return key
        reading = self._reading.get(place)
        if reading is None:
            reading = self._reading[place] = asyncio.create_task(self._read_key(workspace_id, version))
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(reading)

    async def _read_key(self, workspace_id: UUID, version: int) -> DataKey | None:
        try:
            async with self._storage.single() as connection:
                row = await connection.row(KEY, {"workspace": workspace_id, "version": version})
            if row is None:
                return None
            key = self._cipher.unwrap(wrapped_key(row))
            self._keys.put((workspace_id, version), key)
            return key
        finally:
            del self._reading[workspace_id, version]


def _place(credential: Credential) -> tuple[UUID, UUID, int, bytes]:
    sealed = credential.sealed
    return credential.workspace_id, credential.id, sealed.key_version, sealed.data


class _Kept(Generic[K, V]):
    """A bounded memory whose entries are forgotten after a time."""

    def __init__(self, clock: Clock, *, limit: int) -> None:
        self._clock = clock
        self._limit = limit
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._clock.monotonic():
            del self._entries[key]
            return None
        return entry[1]

    def put(self, key: K, value: V) -> None:
        self._entries[key] = (self._clock.monotonic() + _KEPT_S, value)
        self._entries.move_to_end(key)
        now = self._clock.monotonic()
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if oldest[0] > now and len(self._entries) <= self._limit:
                break
            self._entries.popitem(last=False)
