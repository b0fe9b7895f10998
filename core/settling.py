"""Books what a call has used, again and again until it is; meanwhile it is kept where it outlives the process."""

import asyncio
import logging
from dataclasses import replace
from itertools import chain, repeat

from core.app import App
from core.entities import Invocation, InvocationStatus
from core.errors import OutcomeUnknown, Problem, ServerUnavailable
from core.ports.unsettled import Settlement

log = logging.getLogger(__name__)

BOOK_WAIT_S = 5.0
BOOK_AGAIN_S = (0.5, 1.0, 2.0, 5.0, 10.0)


async def book(app: App, settlement: Settlement) -> bool:
    """Book a settlement; tell whether that was done. Who does it twice changes nothing by it."""
    invocation = settlement.invocation
    try:
        async with asyncio.timeout(BOOK_WAIT_S):
            await app.invocations.settle(invocation, settlement.charges, settlement.spent)
            if settlement.was_refused:
                async with app.storage.transaction() as tx:
                    await tx.once.forget(invocation.id)
    except ServerUnavailable as error:
        log.warning("the settlement of invocation %s waits: %s", invocation.id, error)
    except Exception:
        log.exception("the settlement of invocation %s has to be tried again", invocation.id)
    else:
        return True
    return False


class Settling:
    """One settlement on its way into the books; meanwhile it waits in Redis for a worker, should this process end."""

    def __init__(self, app: App, settlement: Settlement) -> None:
        self._app = app
        self._settlement = settlement
        self._is_booked = False

    async def secure(self) -> None:
        """Book it, or keep it in Redis at least; while neither engine takes it, try again for some seconds."""
        for pause in (*BOOK_AGAIN_S, 0.0):
            self._is_booked = await book(self._app, self._settlement)
            if self._is_booked or await self._keep() or self._app.running.closed:
                return
            await self._app.running.rest(pause)

    async def finish(self) -> None:
        """Book it if it is not yet, however long that takes; a process that stops leaves it to others."""
        for pause in chain(BOOK_AGAIN_S, repeat(BOOK_AGAIN_S[-1])):
            if self._is_booked:
                return
            is_kept = await self._keep()  # again and again: Redis may have lost it
            if self._app.running.closed:
                if not is_kept:
                    log.error("neither engine takes it: the sweep will book %s", self._settlement.invocation.id)
                return
            await self._app.running.rest(pause)
            self._is_booked = await book(self._app, self._settlement)

    async def _keep(self) -> bool:
        """Keep it in Redis; tell whether it is there."""
        try:
            await self._app.unsettled.put(self._settlement)
        except ServerUnavailable as error:
            log.warning("the settlement of %s is kept in memory alone: %s", self._settlement.invocation.id, error)
            return False
        return True


def called_off(app: App, invocation: Invocation, error: OutcomeUnknown) -> Settlement:
    """Return the settlement of a call that was refused, and may have been admitted all the same."""
    ended = replace(invocation, status=InvocationStatus.FAILED, error=Problem.of(error), ended_at=app.clock.now())
    return Settlement(invocation=ended, charges={}, spent={}, was_refused=True)
