"""Books what the calls of dead processes used, and frees what they held."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from core.completion import logged_output
from core.entities import InvocationStatus, QuotaUnit
from core.metering import charge
from core.model_types import Usage, estimated_tokens
from core.pricing import cost
from storage import processes
from storage.processes import DeadHold
from storage.resources import Resources

_GROUP = 100


async def sweep_holds(resources: Resources) -> int:
    """End the calls of processes without a lease that hold something; return how many.

    What the log has of their output is charged with their input, counted here; where it has nothing, nothing is.
    """
    swept = 0
    while True:
        async with resources.storage.connect() as connection:
            found = await processes.holding_left_behind(connection, limit=_GROUP)
        ended = [await _sweep(resources, *one) for one in found]
        swept += sum(ended)
        if len(found) < _GROUP or not any(ended):
            return swept


async def _sweep(resources: Resources, invocation_id: UUID, workspace_id: UUID, holds: Sequence[DeadHold]) -> bool:
    """Book one call. ServerUnavailable while nobody can tell what it produced."""
    written = await logged_output(resources.app, invocation_id)
    usage = None
    if written is not None:
        usage = Usage(
            input_tokens=max((one.input_tokens for one in holds), default=0),
            output_tokens=estimated_tokens(written.produced),
            estimated=True,
        )
    async with resources.storage.read() as tx:
        record = (await tx.invocations.get_many([workspace_id], [invocation_id])).get(invocation_id)
    if record is None:
        return False
    ended = replace(
        record,
        status=InvocationStatus.FAILED,
        error=processes.LEFT_BEHIND,
        usage=usage,
        cost=cost(usage, record.pricing) if usage is not None else None,
        ended_at=resources.app.clock.now(),
    )
    charges = {one.id: _charge(one, usage) for one in holds[-1:]}
    return await resources.log.sweep(ended, charges)


def _charge(hold: DeadHold, usage: Usage | None) -> int:
    """Return what a hold is charged; one of CREDITS holds exactly what a call takes."""
    return charge(hold.unit, usage, hold.amount if hold.unit is QuotaUnit.CREDITS else 1)
