"""What the workers do and when, and how one runs on arq."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from arq import cron, func
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.worker import Function, Worker

from core.app import App
from core.errors import ServerUnavailable
from core.jobs import Job, ProcessPaymentEvent, RefreshModels, RotateWorkspaceKey, ValidateCredential
from core.settings import Settings
from storage import processes
from storage.processes import Counts
from storage.queue import QUEUE, decode, encode
from storage.redis import redis_errors
from storage.resources import Resources, open_resources
from workers.check_ledger import check_ledger
from workers.expire_cooldown import expire_cooldown
from workers.expire_orders import expire_orders
from workers.perform import perform
from workers.process_payment_event import process_payment_event
from workers.prune import prune
from workers.refresh_lists import refresh_lists
from workers.refresh_models import refresh_models
from workers.relay_outbox import relay_outbox
from workers.reset_quotas import reset_quotas
from workers.revalidate_credentials import revalidate_credentials
from workers.rewrap_keys import rewrap_keys
from workers.roll_up_usage import roll_up_usage
from workers.rotate_workspace_key import rotate_workspace_key
from workers.settle_invocation import settle_invocation
from workers.sweep_holds import sweep_holds
from workers.sweep_invocations import sweep_invocations
from workers.validate_credential import validate_credential

log = logging.getLogger(__name__)

Context = dict[str, Any]
_SLOTS = 20


def _job(payload: type[Job], work: Callable[[App, Any], Awaitable[None]]) -> Function:
    """Return the arq function of an outbox job."""

    async def run(ctx: Context, *args: Any) -> None:
        (job_id,) = args
        try:
            await perform(ctx["resources"], UUID(job_id), work)
        except ServerUnavailable as error:
            log.warning("%s %s waits: %s", payload.name, job_id, error)

    return func(run, name=payload.name, timeout=120, keep_result=0, max_tries=5)


def _tick(work: Callable[[Resources], Awaitable[int]], *, at_start: bool = False, **when: set[int] | int) -> CronJob:
    """Return the arq cron job of a routine; it runs on one worker at a time, `at_start` when a worker starts too."""

    async def run(ctx: Context, *_: Any) -> None:
        try:
            await work(ctx["resources"])
        except ServerUnavailable as error:
            log.warning("%s waits: %s", work.__name__, error)

    return cron(run, name=work.__name__, timeout=300, max_tries=1, keep_result=0, run_at_startup=at_start, **when)  # type: ignore[arg-type]


_EVERY_S = set(range(60))
_EVERY_5_S = set(range(0, 60, 5))
_EVERY_10_S = set(range(0, 60, 10))


class WorkerSettings:
    """The timetable."""

    functions = (
        _job(ProcessPaymentEvent, process_payment_event),
        _job(RefreshModels, refresh_models),
        _job(RotateWorkspaceKey, rotate_workspace_key),
        _job(ValidateCredential, validate_credential),
    )

    cron_jobs = (
        _tick(relay_outbox, second=_EVERY_5_S),
        _tick(expire_cooldown, second=_EVERY_S),
        _tick(settle_invocation, second=_EVERY_5_S),
        _tick(expire_orders, second=45),
        _tick(sweep_holds, second=_EVERY_10_S),
        _tick(sweep_invocations, second=_EVERY_10_S),
        _tick(reset_quotas, at_start=True, minute=0, second=1),
        _tick(check_ledger, minute=29, second=0),
        _tick(roll_up_usage, second=_EVERY_10_S),
        _tick(revalidate_credentials, minute=47, second=0),
        _tick(refresh_lists, minute=53, second=0),
        _tick(prune, minute=17, second=0),
        _tick(rewrap_keys, at_start=True, minute=41, second=0),
    )

    queue_name = QUEUE
    max_jobs = _SLOTS
    queue_read_limit = 4 * _SLOTS
    poll_delay = 0.1
    health_check_interval = 5
    keep_result = 0
    job_timeout = 300
    job_serializer = encode
    job_deserializer = decode


def make_worker(resources: Resources, *, burst: bool = False) -> Worker:
    """Return an arq worker on open resources; `burst` stops it when nothing is left to do."""
    return Worker(
        functions=WorkerSettings.functions,
        cron_jobs=() if burst else WorkerSettings.cron_jobs,
        queue_name=WorkerSettings.queue_name,
        redis_pool=resources.queue.redis,
        max_jobs=WorkerSettings.max_jobs,
        queue_read_limit=WorkerSettings.queue_read_limit,
        poll_delay=WorkerSettings.poll_delay,
        health_check_interval=WorkerSettings.health_check_interval,
        keep_result=WorkerSettings.keep_result,
        job_timeout=WorkerSettings.job_timeout,
        job_serializer=encode,
        job_deserializer=decode,
        handle_signals=False,
        burst=burst,
        ctx={"resources": resources},
    )


async def run(settings: Settings) -> None:
    """Work until told to stop by SIGTERM or SIGINT; jobs under way are given back.

    Raises:
        ServerUnavailable: the database or Redis is away; whoever started the worker starts it again.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    workers: list[Worker] = []

    async def counts() -> Counts:
        return await _counts(workers[0]) if workers else Counts()

    async with open_resources(settings, kind=processes.WORKER, counts=counts) as resources:
        worker = make_worker(resources)
        workers.append(worker)
        await work_until(worker, stop)


async def work_until(worker: Worker, stop: asyncio.Event) -> None:
    """Run a worker until `stop`, or until Redis goes away (ServerUnavailable)."""
    working, stopping = asyncio.create_task(worker.async_run()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        for task in (working, *([worker.main_task] if worker.main_task else ()), *worker.tasks.values()):
            task.cancel()
        # gathered, not waited for: what a job met that was cut short would else be logged as taken by nobody
        await asyncio.gather(working, stopping, *worker.tasks.values(), return_exceptions=True)
    if not stop.is_set():
        with redis_errors():
            await working


async def _counts(worker: Worker) -> Counts:
    """Return what a worker tells of its jobs."""
    redis: ArqRedis = worker.pool
    return Counts(
        queued=int(await redis.zcard(QUEUE)),
        ongoing=sum(not task.done() for task in worker.tasks.values()),
        complete=worker.jobs_complete,
        failed=worker.jobs_failed,
        retried=worker.jobs_retried,
    )
