"""What the books say after a run, held against what the provider and the clients have counted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from core.pricing import amount_of
from graph import ids
from storage.budgets import budgets
from storage.budgets import out_of_balance as budgets_out_of_balance
from storage.connection import Connection
from storage.invocations import STILL_RUNS, invocations
from storage.quotas import out_of_balance, quota_entries, quota_holds, quotas
from tests.chaos.clients import Seen
from tests.chaos.provider import Sent

_ENDS = ("SETTLE", "RELEASE", "EXPIRE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What the books have of one call."""

    status: str
    owner: UUID
    ends: int
    corrections: int
    charged: int
    input_tokens: int
    estimated: bool
    has_usage: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found. `faults` are broken promises, one sentence each."""

    calls: int
    admitted: int
    refused: int
    completed: int
    cut: int
    outcomes: Mapping[str, int]
    unfollowed: int
    charged: int
    faults: Sequence[str]

    @property
    def cut_share(self) -> float:
        """Return which part of the admitted calls did not come to their end."""
        return self.cut / max(self.admitted, 1)


async def still_open(connection: Connection) -> tuple[int, int]:
    """Return how much of quotas and budgets is reserved, and how many invocations run."""
    reserved = await connection.row(select(func.coalesce(func.sum(quotas.c.reserved), 0)))
    of_budgets = [row.reserved for row in await connection.rows(select(budgets))]
    running = await connection.row(select(func.count()).select_from(invocations).where(STILL_RUNS))
    assert reserved is not None
    assert running is not None
    return int(reserved[0]) + sum(of_budgets), int(running[0])


async def booked(connection: Connection) -> Mapping[UUID, Booked]:
    """Return what is booked, by the invocation."""
    columns = quota_entries.c
    kinds: dict[UUID, Counter[str]] = {}
    charged: Counter[UUID] = Counter()
    for row in await connection.rows(select(columns.invocation_id, columns.kind, columns.used_change)):
        if row.invocation_id is not None:
            kinds.setdefault(row.invocation_id, Counter())[row.kind] += 1
            charged[row.invocation_id] += row.used_change
    inputs = {row.invocation_id: row.input_tokens for row in await connection.rows(select(quota_holds))}
    found: dict[UUID, Booked] = {}
    for row in await connection.rows(select(invocations)):
        told = kinds.get(row.id, Counter())
        found[row.id] = Booked(
            status=row.status,
            owner=row.owner,
            ends=sum(told[kind] for kind in _ENDS),
            corrections=told["LATE_SETTLE"],
            charged=charged[row.id],
            input_tokens=inputs.get(row.id, 0),
            estimated=bool(row.estimated),
            has_usage=row.estimated is not None,
        )
    return found


async def examine(connection: Connection, seen: Sequence[Seen], sent: Mapping[int, Sent]) -> Report:
    """Compare."""
    books = await booked(connection)
    faults = [f"the quota {found} is not the sum of its entries" for found in await out_of_balance(connection)]
    faults += [f"the budget {found} is not the sum of its holds" for found in await budgets_out_of_balance(connection)]
    reserved, running = await still_open(connection)
    if reserved or running:
        faults.append(f"{reserved} are still reserved, {running} calls still run")
    faults += [
        f"{row.used} of {row.limit} are used"
        for row in await connection.rows(select(quotas))
        if row.limit is not None and row.used + row.reserved > row.limit
    ]
    rows = await connection.rows(select(invocations.c.cost))
    costs = [Decimal(row.cost) for row in rows if row.cost is not None]
    faults += [
        f"{amount_of(row.used)} of the budget are spent, the calls cost {sum(costs)}"
        for row in await connection.rows(select(budgets))
        if amount_of(row.used) != sum(costs)
    ]
    followed: set[UUID] = set()
    completed = cut = 0
    for one in seen:
        invocation_id = ids.key_of(one.invocation_id, "Invocation") if one.invocation_id is not None else None
        if invocation_id is None:
            continue
        followed.add(invocation_id)
        record = books.get(invocation_id)
        if record is None:
            faults.append(f"call {one.plan.number} has no record")
            continue
        is_whole = one.end is not None and one.end["__typename"] == "CompletionFinished"
        completed, cut = completed + is_whole, cut + (not is_whole)
        faults += [f"call {one.plan.number}: {fault}" for fault in _faults(one, record, sent.get(one.plan.number))]
    for number, asked in sent.items():
        if asked.requests > 1:
            faults.append(f"call {number}: the provider was asked {asked.requests} times")
    for invocation_id, record in books.items():
        if record.ends != 1:
            faults.append(f"the invocation {invocation_id} ({record.status}) has {record.ends} settlements")
    return Report(
        calls=len(seen),
        admitted=len(books),
        refused=sum(one.refused is not None for one in seen),
        completed=completed,
        cut=cut,
        outcomes=Counter(_outcome(one) for one in seen),
        unfollowed=len(books) - len(followed),
        charged=sum(record.charged for record in books.values()),
        faults=faults,
    )


def _outcome(one: Seen) -> str:
    if one.refused is not None:
        return f"refused {one.refused}"
    if one.end is None:
        return "left" if one.invocation_id is not None else "never begun"
    return one.end["error"]["code"] if one.end["__typename"] == "CompletionFailed" else "finished"


def _faults(one: Seen, record: Booked, sent: Sent | None) -> list[str]:
    given = sent or Sent()
    faults = []
    if record.has_usage and not record.estimated:
        if record.charged != given.prompt + given.output:
            faults.append(f"charged {record.charged}, the provider counted {given.prompt + given.output}")
        return faults
    output = record.charged - record.input_tokens if record.charged else 0
    said: Any = f"delivered {one.delivered}, charged {output}, sent {given.output}"
    if not one.delivered <= output <= given.output:
        faults.append(said)
    if one.end is not None and one.end["__typename"] == "CompletionFinished" and one.end["usage"]["estimated"] is False:
        faults.append(f"finished by the provider's count, booked by another: {said}")
    return faults
