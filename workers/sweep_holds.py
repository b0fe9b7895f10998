"""Books what the calls of dead processes used, and frees what they held."""

import logging
from dataclasses import replace
from typing import Any

from core.completion import Logged, logged
from core.entities import InvocationStatus, QuotaUnit
from core.errors import ErrorCode, ServerUnavailable
from core.metering import charge, spent
from core.model_types import Usage, estimated_tokens
from core.model_types.llm import CompletionFinished
from core.pricing import cost
from storage import processes
from storage.processes import DeadCall, DeadHold
from storage.resources import Resources

log = logging.getLogger(__name__)

_GROUP = 100


async def sweep_holds(resources: Resources) -> int:
    """End the calls of processes without a lease that hold something; return how many.

    Where the log has the end, what its owner said is booked; otherwise what it has of the output, or the record noted
    while Redis was away, is charged with the input, counted here. Where there is nothing, nothing is charged.
    """
    swept = 0
    while True:
        async with resources.storage.connect() as connection:
            found = await processes.holding_left_behind(connection, limit=_GROUP)
        ended = [await _swept(resources, call) for call in found]
        swept += sum(ended)
        if len(found) < _GROUP or not any(ended):
            return swept


async def _swept(resources: Resources, call: DeadCall) -> bool:
    """Book one call; tell whether that was done. One that cannot be booked holds up no other."""
    try:
        return await _sweep(resources, call)
    except ServerUnavailable:
        raise
    except Exception:
        log.exception("what the call %s of a dead process used cannot be booked", call.id)
        return False


async def _sweep(resources: Resources, call: DeadCall) -> bool:
    """Book one call. ServerUnavailable while nobody can tell what it produced."""
    found = await logged(resources.app, call.id)
    usage = _usage(found, call)
    async with resources.storage.read() as tx:
        record = (await tx.invocations.get_many([call.workspace_id], [call.id])).get(call.id)
    if record is None:
        return False
    ended = replace(
        record,
        **_end(found),
        usage=usage,
        cost=cost(usage, record.pricing) if usage is not None else None,
        ended_at=resources.app.clock.now(),
    )
    of_quotas = [(one, one.unit) for one in call.holds if one.unit is not None]
    charges = {one.id: _charge(one, unit, usage) for one, unit in of_quotas[-1:]}
    spends = {one.id: spent(usage, record.pricing, one.amount) for one in call.holds if one.unit is None}
    return await resources.log.sweep(ended, charges, spends)


def _usage(found: Logged | None, call: DeadCall) -> Usage | None:
    """Return what a call used: what its owner has said with the end, or what is counted here; None for nothing."""
    if found is not None and found.end is not None:
        return found.end.usage
    produced = max(estimated_tokens(found.written.produced) if found is not None else 0, call.noted)
    if not produced:
        return None
    inputs = max((one.input_tokens for one in call.holds), default=0)
    return Usage(input_tokens=inputs, output_tokens=produced, estimated=True)


def _end(found: Logged | None) -> dict[str, Any]:
    """Return how a call ended: as its owner has told its readers, or by the death of its process."""
    end = found.end if found is not None else None
    if isinstance(end, CompletionFinished):
        return {"status": InvocationStatus.SUCCEEDED, "error": None}
    error = end.error if end is not None else processes.LEFT_BEHIND
    is_cancelled = error.code is ErrorCode.CANCELLED
    return {"status": InvocationStatus.CANCELLED if is_cancelled else InvocationStatus.FAILED, "error": error}


def _charge(hold: DeadHold, unit: QuotaUnit, usage: Usage | None) -> int:
    """Return what a hold is charged; one of CREDITS holds exactly what a call takes."""
    return charge(unit, usage, hold.amount if unit is QuotaUnit.CREDITS else 1)
