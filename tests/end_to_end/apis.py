"""API processes of one installation, to be stopped and killed, on a Valkey that can be killed as well."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from core.settings import Settings
from storage.bootstrap import bootstrap
from storage.embedded.valkey import start_valkey
from storage.embedded.watched import Watched
from tests.conftest import KEY
from tests.nursery import Forked, nursery
from tests.product import NO_TLS, Client
from tests.waiting import LIMIT_S, reserved_port


@dataclass(slots=True, kw_only=True)
class Api(Client):
    """One process that serves the API."""

    process: Forked = field(repr=False)

    async def stop(self) -> int:
        """Ask it to stop, and return its exit code once it has."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, LIMIT_S)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()


@dataclass(slots=True, kw_only=True)
class Installation:
    """A database, a Valkey of its own, and as many processes as are started."""

    settings: Settings
    token: str = field(repr=False)
    valkey: Watched
    log: Path
    stack: AsyncExitStack
    environment: dict[str, str]
    apis: list[Api] = field(default_factory=list)

    async def pair(self) -> list[Api]:
        """Return two processes that run, started where there are fewer."""
        self.apis = [api for api in self.apis if api.process.poll() is None]
        started = await asyncio.gather(*(self.start() for _ in range(2 - len(self.apis))))
        self.apis = [*self.apis, *started][:2]
        return list(self.apis)

    async def start(self, **more: str) -> Api:
        """Start an API process; `more` gives further variables without their prefix."""
        port = self.stack.enter_context(reserved_port())
        given = {f"MODELYARD_{name}": value for name, value in more.items()} | {"MODELYARD_PORT": str(port)}
        process = await asyncio.to_thread(nursery().start, "web", self.environment | given, self.log)
        self.stack.callback(ended, process)
        api = Api(url=f"http://127.0.0.1:{port}", token=self.token, process=process)
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client, asyncio.timeout(LIMIT_S):
            while True:
                assert process.poll() is None, self.log.read_text()
                with suppress(httpx.HTTPError):
                    if (await client.get(f"{api.url}/health/ready")).status_code == 200:
                        return api
                await asyncio.sleep(0.05)

    def kill_valkey(self) -> None:
        """End Valkey as a crash does."""
        self.valkey.kill()

    def start_valkey(self) -> None:
        """Start Valkey again on what it has written."""
        self.valkey = start_valkey(self.settings.data, self.settings.data / "valkey.sock")


@asynccontextmanager
async def installation(settings: Settings, **more: str) -> AsyncIterator[Installation]:
    """Open an installation on the database of these settings; `more` gives variables of all its processes."""
    folder = settings.data / "v"
    folder.mkdir(mode=0o700)
    own = replace(settings, data=folder, redis_url=f"unix://{folder}/valkey.sock")
    valkey = start_valkey(folder, folder / "valkey.sock")
    async with AsyncExitStack() as stack:
        secret = await bootstrap(own)
        assert secret is not None
        given = {
            "DATABASE_URL": own.database_url,
            "REDIS_URL": own.redis_url,
            "DATA": str(folder),
            "ENCRYPTION_KEYS": KEY,
            "EGRESS_ALLOW": "127.0.0.0/8:*",
            **more,
        }
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MODELYARD_")}
        started = Installation(
            settings=own,
            token=secret.reveal(),
            valkey=valkey,
            log=settings.data / "log",
            stack=stack,
            environment=clean | {f"MODELYARD_{name}": value for name, value in given.items()},
        )
        stack.callback(lambda: started.valkey.kill())
        yield started


def ended(process: Forked) -> None:
    """End a process as a crash does, and take note of it."""
    process.kill()
    process.wait()
