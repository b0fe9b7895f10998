"""The beginning of a call of any type: admitted and written down before anybody is called."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.budgets import funds_of
from core.configuration import Configuration
from core.entities import Invocation
from core.errors import BudgetExceeded, OutcomeUnknown, ServerUnavailable
from core.ids import id_of
from core.model_types.llm import ProviderType
from core.plan import Step
from core.pool import Tries
from core.ports.once import OnceKey
from core.ports.rates import Limited, Rate, Taken
from core.purse import Purse
from core.rates import foreseen_tokens, rates_of, refusal
from core.resolve import preferred_type
from core.settling import Settling, called_off

S = TypeVar("S", bound=Step)


async def configuration_for(app: App, viewer: Viewer, workspace_id: UUID | None) -> Configuration:
    """Return the configuration of the workspace that a call is made in, as if nothing of its quotas were used.

    Raises:
        ModelyardError: this server is stopping, or the viewer may make no calls there.
    """
    if app.running.closing:
        raise ServerUnavailable("This server is stopping; ask again in a moment.")
    found = workspace_of(viewer, workspace_id)
    require(viewer, found, Permission.MODEL_INVOKE)
    return await app.configurations.get(found, viewer.memberships[found].version)


async def current(app: App, configuration: Configuration) -> Configuration:
    """Return the configuration with the balances of its quotas as they are now, where they may decide anything."""
    if not configuration.quotas or not any(
        preferred_type(configuration, name)[0] is ProviderType.SYSTEM for name in configuration.hosted
    ):
        return configuration
    async with app.storage.read() as tx:
        quotas = await tx.quotas.of_workspace(configuration.workspace_id)
    return configuration.with_quotas(quotas)


async def admit(
    app: App,
    viewer: Viewer,
    workspace_id: UUID,
    steps: Sequence[S],
    *,
    end_user: str | None,
    tags: Mapping[str, str],
    once: Callable[[UUID], OnceKey] | None = None,
) -> tuple[Invocation, Tries[S]]:
    """Choose the first attempt, hold what it may use, and write the call down; return its record and its attempts.

    A model that a budget cannot pay for gives way to those after it.

    Raises:
        RateLimited: the token or the workspace has made too many calls in the last minute.
        PoolExhausted: every member of the pool rests.
        QuotaExceeded: no quota has enough left; nothing was written.
        BudgetExceeded: a budget has not, or the first model has no price in its currency; nothing was written.
        AlreadyAdmitted: its key stands for another call already.
    """
    left, refusal = steps, None
    while True:
        tries = Tries(app, workspace_id, left, Purse(app, funds_of(viewer, workspace_id, app.settings)))
        try:
            return await _written(app, viewer, workspace_id, tries, end_user=end_user, tags=tags, once=once), tries
        except BudgetExceeded as error:
            refusal, dear = refusal or error, tries.current.step.key
            left = [step for step in left if step.key != dear]
            if not left:
                raise refusal from None


async def _written(
    app: App,
    viewer: Viewer,
    workspace_id: UUID,
    tries: Tries[S],
    *,
    end_user: str | None,
    tags: Mapping[str, str],
    once: Callable[[UUID], OnceKey] | None,
) -> Invocation:
    """Begin with the first attempt that may be made now, and return the record of the call; raises as `admit`."""
    purse = tries.purse
    purse.taken = await _begun(app, tries, rates_of(viewer, workspace_id, app.settings))
    first = tries.current.step
    now = app.clock.now()
    invocation = Invocation(
        id=id_of(now),
        workspace_id=workspace_id,
        model=first.key,
        provider_type=first.provider_type,
        credential_id=first.credential.id if first.credential is not None else None,
        credential_name=first.credential_name,
        token_id=viewer.token_id,
        account_id=viewer.account_id,
        owner=app.process_id,
        started_at=now,
        pricing=first.card.pricing,
        end_user=end_user,
        tags=tags,
    )
    key = once(invocation.id) if once is not None else None
    try:
        await purse.admit(invocation, first, key)
    except BaseException as error:
        tries.call_off()
        if isinstance(error, OutcomeUnknown):
            app.running.see_through(Settling(app, called_off(app, invocation, error)).finish())
        if purse.taken is not None:
            await app.rates.give_back(purse.taken)
        raise
    return invocation


async def _begun(app: App, tries: Tries[S], rates: Sequence[Rate]) -> Taken | None:
    """Choose the first attempt while the call is counted by its rates, in one round trip where both ask Redis.

    Raises:
        RateLimited: a rate has no room for it, and nothing is counted.
        PoolExhausted: every member of the pool rests, and nothing is counted.
    """
    if not rates:
        await tries.begin()
        return None
    tokens = foreseen_tokens(tries.current.step) if any(rate.tokens is not None for rate in rates) else 0
    taken, begun = await asyncio.gather(app.rates.take(rates, tokens), tries.begin(), return_exceptions=True)
    if not isinstance(taken, Taken):
        tries.call_off()
        raise refusal(taken) if isinstance(taken, Limited) else taken
    if begun is not None:
        await app.rates.give_back(taken)
        raise begun
    return taken
