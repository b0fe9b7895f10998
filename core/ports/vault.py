"""What seals and opens the values of credentials."""

from typing import Protocol
from uuid import UUID

from core.entities import Credential, Sealed
from core.ports.transaction import Transaction
from core.provider import Values


class Vault(Protocol):
    """Seals and opens credential values with the workspace's key."""

    async def seal(self, tx: Transaction, workspace_id: UUID, credential_id: UUID, values: Values) -> Sealed:
        """Return the values sealed under the newest key of the workspace, bound to the credential."""
        ...

    def opened(self, credential: Credential) -> Values | None:
        """Return the values where they are at hand, None where `open` has to open them."""
        ...

    async def open(self, credential: Credential) -> Values:
        """Return the values in clear, secrets as Secret. CredentialUnreadable if they cannot be opened."""
        ...
