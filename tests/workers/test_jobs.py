"""Jobs on real arq and real Valkey: done once, given back when they fail, safe to run twice, late or never."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import event, func, select, update

from core.access import Role
from core.app import App
from core.entities import CredentialStatus, InvocationStatus
from core.errors import ErrorCode, UpstreamAuthentication, UpstreamUnavailable
from core.ids import uuid7
from core.jobs import JOBS, ValidateCredential
from core.members import NewMember, add_member
from core.ports.pool_state import Lease, Place
from core.secret import Secret, hash_secret
from storage import leases, processes
from storage.invocations import attempts, invocations
from storage.outbox import DONE, RUNNING, outbox
from storage.processes import Counts
from storage.redis import absolute
from storage.resources import Resources, open_resources
from tests import make
from tests.conftest import MovableClock
from tests.storage import rows
from tests.waiting import LIMIT_S
from workers.expire_cooldown import expire_cooldown
from workers.main import WorkerSettings, make_worker
from workers.perform import perform
from workers.prune import prune
from workers.relay_outbox import relay_outbox
from workers.roll_up_usage import roll_up_usage
from workers.sweep_invocations import sweep_invocations


async def _row(resources: Resources, job_id: UUID) -> Any:
    async with resources.storage.connect() as connection:
        return await connection.row(select(outbox).where(outbox.c.id == job_id))


async def _work(resources: Resources) -> None:
    """Let a worker do all that waits."""
    await resources.relay.sweep()
    async with asyncio.timeout(LIMIT_S):
        await make_worker(resources, burst=True).async_run()


def test_every_job_has_a_function_of_its_name() -> None:
    assert {function.name for function in WorkerSettings.functions} == {job.name for job in JOBS}
    assert {tick.name for tick in WorkerSettings.cron_jobs} == {
        "relay_outbox", "roll_up_usage", "sweep_invocations", "prune", "revalidate_credentials", "rewrap_keys",
        "expire_cooldown", "refresh_lists", "sweep_holds", "check_ledger", "settle_invocation",
        "reset_quotas", "expire_orders",
    }  # fmt: skip


async def test_an_unverified_credential_is_validated_by_the_worker(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(
        app, tenant.id, provider="echo", values={"api_key": Secret("x")}, status=CredentialStatus.UNVERIFIED
    )
    job_id = await rows.added_job(app, ValidateCredential(workspace_id=tenant.id, credential_id=made.id, version=1))

    await _work(resources)

    configuration = await app.configurations.get(tenant.id)
    assert configuration.credentials[made.id].status is CredentialStatus.VALID
    assert (await _row(resources, job_id)).state == DONE


async def test_a_refused_credential_is_validated_again_as_long_as_nothing_is_decided(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(
        app, tenant.id, provider="echo", values={"api_key": Secret("x")}, status=CredentialStatus.UNVERIFIED
    )
    place = Place(member_id=uuid7(), credential_id=made.id, number=0, weight=1)
    refused = Lease(workspace_id=tenant.id, pool_id=uuid7(), place=place)
    await app.pools.failed(refused, UpstreamAuthentication("who are you?"))

    early = await expire_cooldown(resources)
    clock.advance(61)
    late = await expire_cooldown(resources)
    clock.advance(61)
    again = await expire_cooldown(resources)
    await _work(resources)
    clock.advance(61)
    after = [one for one in await app.pools.due() if one.waits]

    configuration = await app.configurations.get(tenant.id)
    assert (early, late, again, after) == (0, 1, 1, [])
    assert configuration.credentials[made.id].status is CredentialStatus.VALID
    assert await app.pools.validated(tenant.id, made.id, is_new=True) is False, "it is on trial already"


async def test_a_rest_of_a_workspace_that_is_gone_stops_no_other(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(
        app, tenant.id, provider="echo", values={"api_key": Secret("x")}, status=CredentialStatus.UNVERIFIED
    )
    for workspace_id, credential_id, error in (
        (uuid7(), uuid7(), UpstreamUnavailable("gone")), (tenant.id, made.id, UpstreamAuthentication("who are you?"))
    ):  # fmt: skip
        place = Place(member_id=uuid7(), credential_id=credential_id, number=0, weight=1)
        await app.pools.failed(Lease(workspace_id=workspace_id, pool_id=uuid7(), place=place), error)
    clock.advance(61)

    assert await expire_cooldown(resources) == 2
    await _work(resources)

    configuration = await app.configurations.get(tenant.id)
    assert configuration.credentials[made.id].status is CredentialStatus.VALID


async def test_a_job_delivered_many_times_runs_once(app: App, resources: Resources) -> None:
    job_id = await rows.added_job(app, ValidateCredential(workspace_id=uuid7(), credential_id=uuid7(), version=1))
    runs = []

    async def work(_: App, job: ValidateCredential) -> None:
        runs.append(job)
        await asyncio.sleep(0.05)

    done = await asyncio.gather(*(perform(resources, job_id, work) for _ in range(10)))
    again = await perform(resources, job_id, work)

    assert (sum(done), again, len(runs)) == (1, False, 1)


async def test_a_job_that_fails_is_given_back_and_done_by_a_later_run(
    app: App, resources: Resources, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await rows.added_job(app, ValidateCredential(workspace_id=uuid7(), credential_id=uuid7(), version=1))
    fails = True

    async def work(_: App, job: ValidateCredential) -> None:
        if fails:
            raise RuntimeError("once")

    assert await perform(resources, job_id, work) is False
    assert (await _row(resources, job_id)).state == RUNNING
    assert await perform(resources, job_id, work) is False, "not before its pause is over"
    clock.advance(6)
    fails = False

    assert await perform(resources, job_id, work) is True
    assert (await _row(resources, job_id)).state == DONE
    assert caplog.text.count("RuntimeError: once") == 1


async def test_a_worker_that_stops_gives_its_job_back_at_once(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    job_id = await rows.added_job(app, ValidateCredential(workspace_id=uuid7(), credential_id=uuid7(), version=1))
    begun = asyncio.Event()

    async def work(_: App, job: ValidateCredential) -> None:
        begun.set()
        await asyncio.sleep(60)

    running = asyncio.create_task(perform(resources, job_id, work))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    clock.advance(0.001)
    lease = await leases.claim(resources.storage, job_id)
    assert lease is not None
    assert lease.fence == 2


async def test_the_relay_of_the_worker_takes_what_no_process_relayed(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    job_id = await rows.added_job(app, ValidateCredential(workspace_id=uuid7(), credential_id=uuid7(), version=1))
    async with asyncio.timeout(LIMIT_S):
        while (await _row(resources, job_id)).queued_at is None:
            await asyncio.sleep(0.02)
    async with Redis.from_url(absolute(app.settings.redis_url)) as redis:
        await redis.flushall()
    clock.advance(31)

    assert await relay_outbox(resources) == 1
    await _work(resources)

    assert (await _row(resources, job_id)).state == DONE


async def test_calls_of_a_dead_process_are_ended_and_those_of_a_living_one_left(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    async with open_resources(app.settings, kind="api", clock=clock) as other:
        theirs = rows.invocation(other.app, tenant)
        unknown = rows.invocation(app, tenant, owner=uuid7())
        for one in (theirs, unknown):
            await app.invocations.admit(one)
        assert await sweep_invocations(resources) == 0
        clock.advance(46)
        async with resources.storage.connect() as connection:
            for process_id in (app.process_id, other.app.process_id):
                assert await processes.renew(connection, process_id, Counts())
        mine = rows.invocation(app, tenant)
        await app.invocations.admit(mine)

        assert await sweep_invocations(resources) == 1, "the one of a process that nobody knows"
        clock.advance(46)
        async with resources.storage.connect() as connection:
            await processes.renew(connection, app.process_id, Counts())
        assert await sweep_invocations(resources) == 1, "the one of the process that stopped renewing"

    async with app.storage.read() as tx:
        found = await tx.invocations.get_many([tenant.id], [theirs.id, unknown.id, mine.id])
    assert found[mine.id].status is InvocationStatus.RUNNING
    for swept in (found[theirs.id], found[unknown.id]):
        assert swept.status is InvocationStatus.FAILED
        assert swept.error is not None
        assert (swept.error.code, swept.error.retryable) == (ErrorCode.SERVER_UNAVAILABLE, True)
        assert swept.ended_at is not None
    assert await app.invocations.settle(rows.invocation(app, tenant, id=theirs.id)) is False


async def test_prune_deletes_invitations_a_month_after_their_end(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    viewer = make.viewer(workspace=tenant.id, account_id=tenant.account.id)
    secret = await add_member(
        app, viewer, NewMember(workspace_id=tenant.id, email="a@test", name=None, role=Role.MEMBER)
    )

    clock.advance(37 * 86_400 - 1)
    kept = await _is_kept(app, secret)
    await prune(resources)
    still = await _is_kept(app, secret)
    clock.advance(2)
    await prune(resources)

    assert (kept, still, await _is_kept(app, secret)) == (True, True, False)


async def _is_kept(app: App, secret: Secret) -> bool:
    async with app.storage.read() as tx:
        return await tx.invitations.by_hash(hash_secret(secret.reveal())) is not None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_is_looked_for_all_the_time_is_found_by_an_index(resources: Resources) -> None:
    asked: list[tuple[str, Any]] = []
    event.listen(
        resources.storage.engines.writer.sync_engine,
        "before_cursor_execute",
        lambda connection, cursor, statement, parameters, *_: asked.append((statement, parameters)),
    )

    await sweep_invocations(resources)
    await roll_up_usage(resources)

    looked = [one for one in asked if one[0].startswith("SELECT") and "FROM invocations" in one[0]]
    assert len(looked) == 2
    async with resources.storage.single() as connection:
        for statement, parameters in looked:
            plan = (await connection.raw.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            assert any("invocations USING INDEX ix_invocations" in step[-1] for step in plan), plan


async def test_prune_deletes_what_is_past_its_time_and_nothing_that_runs(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    tenant = await rows.tenant(app)
    past_ms = int(clock.now().timestamp() * 1000) - 91 * 86_400_000
    old = [rows.invocation(app, tenant, id=uuid7(past_ms + number)) for number in range(5)]
    running_still = rows.invocation(app, tenant, id=uuid7(past_ms))
    recent = rows.invocation(app, tenant, id=uuid7(past_ms + 2 * 86_400_000))
    for one in (*old, running_still, recent):
        await app.invocations.admit(one)
    for one in (*old, recent):
        await app.invocations.settle(
            rows.invocation(
                app, tenant, id=one.id, status=InvocationStatus.SUCCEEDED, ended_at=clock.now(), attempts=()
            )
        )
    job_id = await rows.added_job(app, ValidateCredential(workspace_id=uuid7(), credential_id=uuid7(), version=1))
    waiting = await rows.added_job(app, ValidateCredential(workspace_id=uuid7(), credential_id=uuid7(), version=1))
    lease = await leases.claim(resources.storage, job_id)
    assert lease is not None
    await leases.finish(resources.storage, lease)
    async with resources.storage.connect() as connection:
        a_while_ago = update(outbox).where(outbox.c.id.in_([job_id, waiting]))
        await connection.run(
            a_while_ago.values(updated_at=clock.now() - 8 * (clock.now() - clock.now().replace(day=1)))
        )

    assert await roll_up_usage(resources) == 6
    assert await prune(resources) >= 6

    async with app.storage.read() as tx:
        found = await tx.invocations.get_many([tenant.id], [one.id for one in (*old, running_still, recent)])
    assert set(found) == {running_still.id, recent.id}
    assert await _row(resources, job_id) is None
    assert await _row(resources, waiting) is not None
    assert await prune(resources) == 0
    async with resources.storage.connect() as connection:
        assert (await connection.row(select(func.count()).select_from(attempts))) == (0,)
        assert (await connection.row(select(func.count()).select_from(invocations))) == (2,)
