"""Settlements that could not be booked: kept in Redis whole, booked by a worker, once, whoever else does it too."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from core import admission
from core.access import Role
from core.entities import Invocation, InvocationStatus, QuotaUnit
from core.errors import OutcomeUnknown
from core.model_types import ModelType
from core.plan import ModelReference, Step, question, steps_of
from core.ports.invocation_log import Holds, Spend, Want
from core.ports.once import OnceKey
from core.ports.unsettled import Settlement
from storage.invocation_log import SqlInvocationLog
from storage.last_used import LastUsed
from storage.redis import absolute
from storage.resources import Resources
from tests import make
from tests.conftest import MovableClock
from tests.storage import rows
from tests.storage.test_invocations import _ended as ended
from tests.storage.test_quotas import _balance, _grant, _kinds, _want
from tests.waiting import LIMIT_S
from workers.settle_invocation import settle_invocation


@pytest.fixture(autouse=True)
async def _nothing_waits(redis_url: str) -> None:
    async with Redis.from_url(absolute(redis_url)) as redis:
        await redis.delete("modelyard:unsettled")


async def test_a_settlement_is_kept_whole_and_booked_by_a_worker_once(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
    invocation = rows.invocation(resources.app, tenant, tags={"a": "b"})
    hold = (await resources.app.invocations.admit(invocation, [_want(quota, 60)])).quota
    assert hold is not None
    settlement = Settlement(invocation=ended(invocation), charges={hold.id: 8}, spent=None)
    await resources.app.unsettled.put(settlement)
    assert await resources.unsettled.all() == [settlement]

    booked = [await settle_invocation(resources) for _ in range(2)]
    await resources.app.unsettled.put(settlement)
    booked.append(await settle_invocation(resources))

    assert booked == [1, 0, 1]
    assert await _balance(resources, quota) == (100, 8, 0)
    assert await _kinds(resources, quota) == ["GRANT", "RESERVE", "SETTLE"]
    async with resources.storage.read() as tx:
        found = await tx.invocations.get_many([tenant.id], [invocation.id])
    assert found[invocation.id] == settlement.invocation
    assert await resources.unsettled.all() == []


async def test_a_settlement_that_comes_after_the_sweep_corrects_it(resources: Resources) -> None:
    tenant = await rows.tenant(resources.app)
    quota = await _grant(resources, tenant.id, 100, unit=QuotaUnit.TOKENS)
    invocation = rows.invocation(resources.app, tenant)
    hold = (await resources.app.invocations.admit(invocation, [_want(quota, 60)])).quota
    assert hold is not None
    await resources.log.sweep(ended(invocation, status=InvocationStatus.FAILED), {hold.id: 20}, {})
    await resources.app.unsettled.put(Settlement(invocation=ended(invocation), charges={hold.id: 25}, spent=None))

    assert await settle_invocation(resources) == 1

    assert await _balance(resources, quota) == (100, 25, 0)
    assert await _kinds(resources, quota) == ["GRANT", "RESERVE", "SETTLE", "LATE_SETTLE"]


class Unsure(SqlInvocationLog):
    """A log whose database goes away when it has committed."""

    async def admit(
        self,
        invocation: Invocation,
        wants: Sequence[Want] = (),
        once: OnceKey | None = None,
        spends: Sequence[Spend] = (),
    ) -> Holds:
        await super().admit(invocation, wants, once, spends)
        raise OutcomeUnknown("The database cannot be reached.")


async def test_a_call_that_was_refused_while_it_was_committed_is_ended_and_its_key_forgotten(
    resources: Resources, clock: MovableClock
) -> None:
    app = replace(resources.app, invocations=Unsure(resources.storage, LastUsed(resources.storage, clock), clock))
    tenant = await rows.tenant(app)
    viewer = make.viewer(Role.OWNER, workspace=tenant.id, account_id=tenant.account.id, token_id=tenant.token.id)
    configuration = await app.configurations.get(tenant.id)
    wanted = question(viewer, tenant.id, ModelType.LLM, ModelReference(provider="echo", name="echo"))
    steps: list[Step] = steps_of(app.catalog, configuration, wanted)

    def once(result_id: object) -> OnceKey:
        return OnceKey(
            workspace_id=tenant.id, principal=viewer.principal, operation="completion", key="k", input_hash=b"h" * 32,
            result_id=result_id,  # type: ignore[arg-type]
        )  # fmt: skip

    with pytest.raises(OutcomeUnknown):
        await admission.admit(app, viewer, tenant.id, steps, end_user=None, tags={}, once=once)

    (waiting,) = await _waiting(resources)
    assert waiting.was_refused
    await settle_invocation(resources)
    async with resources.storage.read() as tx:
        found = (await tx.invocations.get_many([tenant.id], [waiting.invocation.id]))[waiting.invocation.id]
        assert await tx.once.find(tenant.id, viewer.principal, "completion", "k") is None
    assert found.status is InvocationStatus.FAILED
    assert found.error is not None
    assert found.error.retryable


async def _waiting(resources: Resources) -> Sequence[Settlement]:
    async with asyncio.timeout(LIMIT_S):
        while not (found := await resources.unsettled.all()):
            await asyncio.sleep(0.01)
    return found
