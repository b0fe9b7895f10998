"""Jobs that follow a commit: relayed at once, never lost, run by one at a time, written by the holder alone."""

import asyncio
import uuid
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from redis.asyncio import Redis
from sqlalchemy import select, update

from core.app import App
from core.errors import ServerUnavailable
from core.jobs import ValidateCredential
from storage import leases
from storage.leases import Lease, LeaseLost
from storage.outbox import DONE, FAILED, RUNNING, WAITING, outbox
from storage.queue import QUEUE
from storage.redis import absolute
from storage.resources import Resources, open_resources
from tests.conftest import MovableClock
from tests.storage import rows
from tests.waiting import LIMIT_S


def _job() -> ValidateCredential:
    return ValidateCredential(workspace_id=uuid.uuid4(), credential_id=uuid.uuid4(), version=1)


async def _is_queued(resources: Resources, job_id: UUID) -> bool:
    async with resources.storage.connect() as connection:
        row = await connection.row(select(outbox.c.queued_at).where(outbox.c.id == job_id))
    assert row is not None
    return row.queued_at is not None


async def _state(resources: Resources, job_id: UUID) -> str:
    async with resources.storage.connect() as connection:
        row = await connection.row(select(outbox.c.state).where(outbox.c.id == job_id))
    assert row is not None
    return str(row.state)


async def _last_change(resources: Resources, job_id: UUID) -> datetime:
    async with resources.storage.connect() as connection:
        row = await connection.row(select(outbox.c.updated_at).where(outbox.c.id == job_id))
    assert row is not None
    changed: datetime = row.updated_at
    return changed


async def _queued(resources: Resources, job_id: object) -> int:
    """Return how many runs of a job wait in the queue."""
    async with Redis.from_url(absolute(resources.app.settings.redis_url)) as redis:
        return sum(str(job_id).encode() in found for found in await redis.zrange(QUEUE, 0, -1))


async def _claim(resources: Resources, job_id: UUID) -> Lease:
    lease = await leases.claim(resources.storage, job_id)
    assert lease is not None
    return lease


async def test_a_job_is_in_the_queue_right_after_its_commit(app: App, resources: Resources) -> None:
    job_id = await rows.added_job(app, _job())

    async with asyncio.timeout(LIMIT_S):
        while not (queued := await _queued(resources, job_id)):
            await asyncio.sleep(0.02)
    assert queued == 1


async def test_a_job_of_a_transaction_that_fails_is_in_no_queue(app: App, resources: Resources) -> None:
    job = _job()
    with pytest.raises(RuntimeError):
        async with app.storage.transaction() as tx:
            await tx.outbox.add(job)
            raise RuntimeError

    assert await resources.relay.sweep() == 0
    async with resources.storage.connect() as connection:
        assert await connection.row(select(outbox.c.id).where(outbox.c.key == job.key)) is None


async def test_a_job_that_waits_is_not_written_twice_but_one_at_work_gets_a_follower(
    app: App, resources: Resources
) -> None:
    job = _job()
    first = await rows.added_job(app, job)
    await rows.added_job(app, job)
    async with resources.storage.connect() as connection:
        assert len(await connection.rows(select(outbox.c.id).where(outbox.c.key == job.key))) == 1

    await _claim(resources, first)
    await rows.added_job(app, job)

    async with resources.storage.connect() as connection:
        states = await connection.rows(select(outbox.c.state).where(outbox.c.key == job.key).order_by(outbox.c.id))
    assert [row.state for row in states] == [RUNNING, WAITING]


async def test_a_queue_that_was_flushed_gets_the_job_again(app: App, resources: Resources, clock: MovableClock) -> None:
    job_id = await rows.added_job(app, _job())
    await resources.relay.sweep()
    async with Redis.from_url(absolute(app.settings.redis_url)) as redis:
        await redis.flushall()

    assert await resources.relay.sweep() == 0, "just relayed: left alone for a while"
    clock.advance(31)
    assert await resources.relay.sweep() == 1

    assert await _queued(resources, job_id) == 1


async def test_of_many_claims_one_succeeds(app: App, resources: Resources) -> None:
    job = _job()
    job_id = await rows.added_job(app, job)

    claims = await asyncio.gather(*(leases.claim(resources.storage, job_id) for _ in range(20)))

    (lease,) = [claim for claim in claims if claim is not None]
    assert lease == Lease(job_id=job_id, fence=1, job=job)
    assert await leases.claim(resources.storage, uuid.uuid4()) is None


async def test_a_lease_that_ran_out_passes_on_and_its_old_holder_writes_no_more(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    job_id = await rows.added_job(app, _job())
    old = await _claim(resources, job_id)
    clock.advance(leases.LEASE_S + 1)
    await resources.relay.sweep()
    assert await _queued(resources, f"{job_id}:2") == 1

    new = await _claim(resources, job_id)

    assert (old.fence, new.fence) == (1, 2)
    for write in (
        leases.finish(resources.storage, old),
        leases.give_back(resources.storage, old, failed=True),
    ):
        with pytest.raises(LeaseLost):
            await write
    with pytest.raises(LeaseLost):
        async with resources.storage.connect() as connection:
            await leases.hold(connection, old)
    assert await _state(resources, job_id) == RUNNING
    await leases.finish(resources.storage, new)
    assert await _state(resources, job_id) == DONE
    assert await leases.claim(resources.storage, job_id) is None


async def test_a_heart_that_beats_keeps_the_lease(app: App, resources: Resources, clock: MovableClock) -> None:
    job_id = await rows.added_job(app, _job())
    lease = await _claim(resources, job_id)

    async with leases.held(resources.storage, lease, every=0.02), asyncio.timeout(LIMIT_S):
        clock.advance(leases.LEASE_S - 1)
        while await _last_change(resources, job_id) < clock.now():
            await asyncio.sleep(0.01)
        clock.advance(leases.LEASE_S - 1)
        assert await leases.claim(resources.storage, job_id) is None


async def test_work_whose_lease_was_taken_over_is_cancelled(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    job_id = await rows.added_job(app, _job())
    lease = await _claim(resources, job_id)
    clock.advance(leases.LEASE_S + 1)
    await _claim(resources, job_id)

    with pytest.raises(LeaseLost):
        async with asyncio.timeout(LIMIT_S), leases.held(resources.storage, lease, every=0.02):
            await asyncio.Event().wait()


async def test_a_failed_run_comes_again_later_and_after_many_never(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    job_id = await rows.added_job(app, _job())
    for run, pause in enumerate((6, 16, 61, 301, 901, 901, 901), 1):
        lease = await _claim(resources, job_id)
        assert lease.fence == run
        await leases.give_back(resources.storage, lease, failed=True)
        clock.advance(pause - 1)
        assert not await resources.relay.sweep()
        clock.advance(1)
        assert await resources.relay.sweep()

    last = await _claim(resources, job_id)
    assert last.fence == leases.MAX_RUNS
    await leases.give_back(resources.storage, last, failed=True)
    assert await _state(resources, job_id) == FAILED


async def test_a_run_that_was_interrupted_comes_again_at_once(
    app: App, resources: Resources, clock: MovableClock
) -> None:
    job_id = await rows.added_job(app, _job())
    lease = await _claim(resources, job_id)

    await leases.give_back(resources.storage, lease, failed=False)
    clock.advance(0.001)

    await resources.relay.sweep()  # or the relay was faster by itself
    assert await _is_queued(resources, job_id)
    assert (await _claim(resources, job_id)).fence == 2


async def test_without_redis_the_commit_stands_and_the_job_waits(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    from tests.conftest import settings_for

    away = settings_for(database_url, f"unix://{tmp_path}/nothing.sock", tmp_path)
    async with open_resources(away, kind="api") as resources:
        job_id = await rows.added_job(resources.app, _job())
        with pytest.raises(ServerUnavailable):
            await resources.relay.sweep()
    there = settings_for(database_url, redis_url, tmp_path)
    async with open_resources(there, kind="api") as resources:
        assert await resources.relay.sweep() == 1
        assert await _queued(resources, job_id) == 1


async def test_a_row_of_a_later_version_is_left_where_it_is(app: App, resources: Resources) -> None:
    job_id = await rows.added_job(app, _job())
    async with resources.storage.connect() as connection:
        await connection.run(update(outbox).where(outbox.c.id == job_id).values(name="not_known_here"))

    assert await leases.claim(resources.storage, job_id) is None
    assert await _state(resources, job_id) == WAITING
