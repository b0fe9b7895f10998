"""Everything that a run kills: two API processes, a worker, Valkey and PostgreSQL, each started again when it is gone."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from storage.migrate import migrate
from tests.conftest import settings_for
from tests.end_to_end.apis import Api, Installation, ended, installation
from tests.engines import Postgres
from tests.nursery import Forked, nursery

APIS = 2
MODEL = """{ workspace { model(key: { provider: "openai_compatible", name: "counted", type: LLM }) { id } } }"""
PRICE = "mutation($input:SetModelPricingInput!){setModelPricing(input:$input){errors{code message}}}"
TOKEN = "mutation($input:CreateApiTokenInput!){createApiToken(input:$input){secret errors{code message}}}"
HOSTED = """
[providers.openai_compatible]
values = {{ api_key = "file:{key}", base_url = "{url}" }}
models = [{{ name = "counted", type = "LLM" }}]
grants = [{{ type = "TRIAL", unit = "TOKENS", limit = {limit} }}]
"""


@dataclass(slots=True, kw_only=True)
class Fleet:
    """What runs. `killed` counts the deaths by kind; `died` says when an API did, `away` when Valkey was gone.

    `over` counts the calls that are: nothing dies twice before the next one is, however slow the machine.
    """

    installed: Installation
    database: Postgres | None
    apis: list[Api] = field(default_factory=list)
    worker: Forked | None = None
    killed: Counter[str] = field(default_factory=Counter)
    away: list[tuple[float, float]] = field(default_factory=list)
    died: list[float] = field(default_factory=list)
    over: int = 0

    def alive(self) -> Sequence[Api]:
        """Return the API processes to ask; all of them where none lives."""
        return [api for api in self.apis if api.process.poll() is None] or self.apis

    async def start(self) -> None:
        """Start the processes; the clients' token is under a budget."""
        first = await self.installed.start()
        model = (await first.data(MODEL))["workspace"]["model"]["id"]
        await first.changed(PRICE, id=model, pricing={"currency": "USD", "input": "0.37", "output": "1.9"})
        budget = {"limit": "1000000", "currency": "USD", "period": "TOTAL"}
        made = await first.changed(TOKEN, name="chaos", role="OWNER", budget=budget)
        self.installed.token = first.token = made["secret"]
        self.apis = [first, *await asyncio.gather(*(self.installed.start() for _ in range(APIS - 1)))]
        self._start_worker()

    async def attend(self) -> None:
        """Start the worker again whenever it has ended, until cancelled."""
        while True:
            if self.worker is None or self.worker.poll() is not None:
                self._start_worker()
            await asyncio.sleep(0.5)

    async def kill_now_and_then(self, kind: str, every_s: float, dice: random.Random, stop: asyncio.Event) -> None:
        """Kill and restart one kind at random moments until `stop`, and at least once."""
        while not stop.is_set() or not self.killed[kind]:
            over = self.over
            with suppress(TimeoutError):
                async with asyncio.timeout(dice.uniform(0.4, 1.6) * every_s):
                    await stop.wait()
            while self.killed[kind] and self.over == over and not stop.is_set():
                await asyncio.sleep(0.05)
            if not stop.is_set() or not self.killed[kind]:
                await self._again(kind, dice.uniform(0, 0.8), dice.randrange(APIS))

    async def _again(self, kind: str, pause_s: float, place: int) -> None:
        self.killed[kind] += 1
        kills: dict[str, Callable[[float, int], Awaitable[None]]] = {
            "api": self._api, "worker": self._worker, "valkey": self._valkey, "database": self._database,
        }  # fmt: skip
        await kills[kind](pause_s, place)

    async def _api(self, pause_s: float, place: int) -> None:
        self.apis[place].kill()
        self.died.append(asyncio.get_running_loop().time())
        await asyncio.sleep(pause_s)
        while True:
            with suppress(AssertionError, TimeoutError):  # what it needs is away as well
                self.apis[place] = await self.installed.start()
                return

    async def _worker(self, pause_s: float, _place: int) -> None:
        if self.worker is not None:
            await asyncio.to_thread(ended, self.worker)
        await asyncio.sleep(pause_s)

    async def _valkey(self, pause_s: float, _place: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.to_thread(self.installed.kill_valkey)
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(self.installed.start_valkey)
        self.away.append((began, loop.time()))

    async def _database(self, pause_s: float, _place: int) -> None:
        assert self.database is not None
        await asyncio.to_thread(self.database.kill)
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(self.database.start)

    def _start_worker(self) -> None:
        self.worker = nursery().start("workers", self.installed.environment, self.installed.log)
        self.installed.stack.callback(ended, self.worker)


@asynccontextmanager
async def fleet(folder: Path, engine: str, provider_url: str, limit: int) -> AsyncIterator[Fleet]:
    """Open a fleet on a new database of that engine; everything is gone when the block ends."""
    database = None
    url = f"sqlite+aiosqlite:///{folder / 'modelyard.db'}"
    if engine == "postgresql":
        server = folder / "postgresql"
        server.mkdir()
        database = Postgres(server, durable=True)
        await asyncio.to_thread(database.start)
        url = database.url.format("postgres")
    try:
        await migrate(url)
        key, hosted = folder / "key", folder / "hosted.toml"
        key.write_text("sk-hosted-0123456789abcdef")
        hosted.write_text(HOSTED.format(key=key, url=provider_url, limit=limit))
        settings = settings_for(url, "unix:///nowhere", folder)
        async with installation(settings, HOSTED=str(hosted), GRACE_SECONDS="1", LOG_LEVEL="WARNING") as installed:
            yield Fleet(installed=installed, database=database)
    finally:
        if database is not None:
            await asyncio.to_thread(database.kill)
