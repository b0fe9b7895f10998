"""The composition root: opens everything that a process needs, and closes it in reverse order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from core.app import App
from core.catalog import Catalog, discover
from core.configuration import HostedProvider
from core.errors import ServerUnavailable
from core.gateway import Gateway
from core.hosted import hosted_of
from core.ids import uuid7
from core.offers import Offer, offers_of
from core.payments.manual import Manual
from core.ports.clock import Clock
from core.products import keep_products
from core.quotas import give_grants
from core.recorder import Recorder
from core.results import Results
from core.running import Running
from core.settings import Settings
from core.tailer import LOOK_EVERY_S, Tailer
from core.wire.egress import Egress, egress_of, normalise_base_url, target_of
from core.wire.http import Http
from storage import configurations, processes
from storage.background import Background
from storage.changes import RedisChanges
from storage.cipher import Cipher
from storage.clock import SystemClock
from storage.commands import Commands
from storage.configurations import Cache
from storage.engine import open_engines
from storage.event_log import ALIVE_S, RedisEventLog
from storage.health import SqlHealth
from storage.identity import SqlIdentity
from storage.invocation_log import SqlInvocationLog
from storage.last_used import WRITE_S, LastUsed
from storage.pool_memory import LOOK_S, SharedPoolState
from storage.pool_state import RedisPoolState
from storage.processes import Counts
from storage.queue import Queue
from storage.rates import RedisRates
from storage.rates_memory import SharedRates
from storage.redis import open_pool
from storage.relay import Relay
from storage.results import RedisResults
from storage.teller import Teller
from storage.transaction import AfterCommit, Committed, SqlStorage
from storage.unsettled import RedisUnsettled
from storage.vault import SqlVault

log = logging.getLogger(__name__)

_GATEWAY_S = 15.0
_LISTEN_AGAIN_S = 1.0
_RENEW_LOG_S = ALIVE_S / 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a process has open: the app, and what workers need besides."""

    app: App
    storage: SqlStorage
    cipher: Cipher
    queue: Queue
    relay: Relay
    background: Background
    log: SqlInvocationLog
    unsettled: RedisUnsettled


@asynccontextmanager
async def open_app(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[App]:
    """Open an API process.

    Raises:
        ServerUnavailable: the database is away.
    """
    async with open_resources(settings, kind=processes.API, clock=clock) as resources:
        yield resources.app


@asynccontextmanager
async def open_resources(
    settings: Settings,
    *,
    kind: str,
    clock: Clock | None = None,
    counts: Callable[[], Awaitable[Counts]] | None = None,
) -> AsyncIterator[Resources]:
    """Open a process of a kind; `counts` is asked every few seconds what a worker has to tell of its jobs."""
    clock = clock or SystemClock()
    process_id = uuid7()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(Http.open(egress=egress_of(settings)))
        catalog, hosted, offers = read_files(settings, http)
        gateways = await stack.enter_async_context(_gateways(settings, clock))
        engines = open_engines(settings.database_url, pool=settings.database_pool)
        stack.push_async_callback(engines.close)
        pool = open_pool(settings.redis_url)
        stack.push_async_callback(pool.aclose)

        commands = Commands(pool)
        changes = RedisChanges(pool)
        event_log = RedisEventLog(pool)
        queue = Queue(pool)
        cipher = Cipher(settings.encryption_keys)
        told = _AfterCommit()
        storage = SqlStorage(engines, cipher, clock, told, hosted)
        snapshots = Cache(storage)
        last_used = LastUsed(storage, clock)
        identity = SqlIdentity(storage, clock, last_used)
        invocations = SqlInvocationLog(storage, last_used, clock)
        unsettled = RedisUnsettled(pool)
        relay = Relay(storage, queue)
        stack.push_async_callback(_last_words, last_used)
        for closing in (changes.close, snapshots.close, identity.close, invocations.close, commands.close):
            stack.push_async_callback(closing)

        background = await stack.enter_async_context(Background.open())
        await stack.enter_async_context(_alive(storage, background, process_id, kind, counts))
        teller = Teller(changes)
        told.to(teller, snapshots, relay)
        background.start(teller.run())
        stack.push_async_callback(teller.flush)
        stack.callback(invocations.tell)
        background.start(relay.run())
        background.every(WRITE_S, last_used.write)
        background.start(_listen(changes, snapshots))
        recorder = Recorder(event_log, process_id, clock, invocations.note_output)
        tailer = Tailer(event_log, changes, process_id)
        if kind == processes.API:
            await stack.enter_async_context(_logging(background, event_log, recorder, tailer, process_id))
        pools = SharedPoolState(RedisPoolState(commands, process_id, clock), clock)
        rates = SharedRates(RedisRates(commands, clock), clock)
        background.every(LOOK_S, pools.look)
        background.every(LOOK_S, rates.look)
        running = await stack.enter_async_context(_running())
        app = App(
            settings=settings,
            process_id=process_id,
            clock=clock,
            catalog=catalog,
            hosted=hosted,
            gateways=gateways,
            offers=offers,
            storage=storage,
            identity=identity,
            configurations=snapshots,
            vault=SqlVault(storage, cipher, clock),
            invocations=invocations,
            unsettled=unsettled,
            pools=pools,
            rates=rates,
            changes=changes,
            health=SqlHealth(storage, queue, clock, engines.name),
            running=running,
            log=event_log,
            recorder=recorder,
            tailer=tailer,
            results=Results(RedisResults(pool), clock),
            egress=http.egress,
            http=http,
        )
        await give_grants(app)
        await keep_products(app)
        yield Resources(
            app=app,
            storage=storage,
            cipher=cipher,
            queue=queue,
            relay=relay,
            background=background,
            log=invocations,
            unsettled=unsettled,
        )


async def check_files(settings: Settings) -> None:
    """Check the operator's files, where there are any, before anything is opened.

    Raises:
        SettingsError: something in them is wrong; each fault is a line.
    """
    if settings.hosted is not None or settings.products is not None:
        async with Http.open(egress=egress_of(settings)) as http:
            read_files(settings, http)


def read_files(settings: Settings, http: Http) -> tuple[Catalog, Mapping[str, HostedProvider], tuple[Offer, ...]]:
    """Return the catalog, and what the operator's files host and sell of it. SettingsError says what is wrong."""
    catalog = discover(http, echo=settings.echo, folder=settings.providers, plugins=settings.plugins)
    hosted = hosted_of(settings.hosted, catalog, partial(_address, http.egress)) if settings.hosted else {}
    return catalog, hosted, offers_of(settings.products, catalog, hosted) if settings.products else ()


@asynccontextmanager
async def _gateways(settings: Settings, clock: Clock) -> AsyncIterator[Mapping[str, Gateway]]:
    """Open the payment gateways that the settings enable, by name; the first serves who names none."""
    manual = Manual()
    if settings.stripe_secret_key is None or settings.stripe_webhook_secret is None:
        yield {manual.name: manual}
        return
    from core.payments.stripe import Stripe  # takes half a second

    target = target_of(settings.stripe_api_base)
    host = f"[{target.host}]" if ":" in target.host else target.host
    async with Http.open(egress=Egress([f"{host}:{target.port}"]), silence_seconds=_GATEWAY_S) as http:
        stripe = Stripe(
            http,
            lambda: clock.now().timestamp(),
            secret_key=settings.stripe_secret_key,
            webhook_secret=settings.stripe_webhook_secret,
            api_base=settings.stripe_api_base,
            return_url=settings.stripe_return_url or f"http://{settings.host}:{settings.port}/",
        )
        yield {stripe.name: stripe, manual.name: manual}


def _address(egress: Egress, text: str) -> str:
    """Return a base URL of the operator's file in its canonical form, if this installation may ever call it."""
    url = normalise_base_url(text)
    egress.check_url(url)
    return url


@asynccontextmanager
async def _logging(
    background: Background, event_log: RedisEventLog, recorder: Recorder, tailer: Tailer, process_id: UUID
) -> AsyncIterator[None]:
    """Write and read the event log during the block; at its end say that this process runs nothing any more."""
    await recorder.renew()
    background.every(_RENEW_LOG_S, recorder.renew)
    for work in (recorder.run, tailer.run, tailer.tell):
        background.start(work())
    background.every(LOOK_EVERY_S, tailer.look)
    try:
        yield
    finally:
        try:
            await event_log.leave(process_id)
        except ServerUnavailable as error:
            log.warning("this process could not sign off from the event log: %s", error)


@asynccontextmanager
async def _running() -> AsyncIterator[Running]:
    """Own this process's completions; what ends the block comes out as it is, not in a group."""
    try:
        async with Running().open() as running:
            yield running
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__


class _AfterCommit:
    """Passes on what a commit brought, once everything is open."""

    def __init__(self) -> None:
        self._pass_on: AfterCommit | None = None

    def to(self, teller: Teller, snapshots: Cache, relay: Relay) -> None:
        """Pass on to these."""

        def pass_on(committed: Committed) -> None:
            for workspace_id, version in committed.versions.items():
                snapshots.changed(workspace_id, version)
            teller.tell(committed)
            if committed.has_jobs:
                relay.nudge()

        self._pass_on = pass_on

    def __call__(self, committed: Committed) -> None:
        if self._pass_on is not None:
            self._pass_on(committed)


async def _listen(changes: RedisChanges, snapshots: Cache) -> None:
    """Drop snapshots that other processes have made old."""
    while True:
        try:
            async with changes.listen(configurations.CHANNEL) as messages:
                async for message in messages:
                    if (told := configurations.from_message(message)) is not None:
                        snapshots.changed(*told)
        except ServerUnavailable as error:
            log.warning("changes of configurations are not heard for now: %s", error)
            await asyncio.sleep(_LISTEN_AGAIN_S)


@asynccontextmanager
async def _alive(
    storage: SqlStorage,
    background: Background,
    process_id: UUID,
    kind: str,
    counts: Callable[[], Awaitable[Counts]] | None,
) -> AsyncIterator[None]:
    """Hold the lease of this process during the block."""
    async with storage.connect() as connection:
        await processes.register(connection, process_id, kind)

    async def renew() -> None:
        told = Counts() if counts is None else await counts()
        async with storage.connect() as connection:
            if not await processes.renew(connection, process_id, told):
                await processes.register(connection, process_id, kind)

    background.every(processes.RENEW_S, renew)
    try:
        yield
    finally:
        await _leave(storage, process_id)


async def _last_words(last_used: LastUsed) -> None:
    """Write the uses noted last; where the database is away they are lost."""
    try:
        await last_used.write()
    except ServerUnavailable as error:
        log.warning("the last uses of tokens and credentials are not written: %s", error)


async def _leave(storage: SqlStorage, process_id: UUID) -> None:
    """End the lease; where the database is away it runs out by itself."""
    try:
        async with storage.connect() as connection:
            await processes.leave(connection, process_id)
    except ServerUnavailable as error:
        log.warning("this process could not sign off: %s", error)
