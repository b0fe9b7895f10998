"""What is stored of budgets."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from core.entities import Budget, Ceiling


class Budgets(Protocol):
    """Ceilings on what tokens may cost."""

    async def of_tokens(self, token_ids: Sequence[UUID]) -> Mapping[UUID, Budget]:
        """Return the budgets of those tokens that have one, with what is spent and held now."""
        ...

    async def put(self, token_id: UUID, ceiling: Ceiling | None) -> None:
        """Give a token a budget, or none; another limit keeps what is spent, another currency or period begins anew.

        The caller has locked the token.
        """
        ...
