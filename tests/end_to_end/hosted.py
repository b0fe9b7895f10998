"""An installation that hosts the fake provider: models of every type, and quotas that tests grant and look at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from core.ids import uuid7
from core.settings import Settings
from storage import processes
from storage.clock import SystemClock
from storage.resources import Resources, open_resources
from tests.conftest import settings_for
from tests.fake_provider import FakeProvider
from tests.product import LLM, Client, Product, running

TYPES = {"LLM": "llm", "TEXT_EMBEDDING": "vectors", "RERANK": "order", "SPEECH2TEXT": "words", "TTS": "voice", "MODERATION": "judge"}  # fmt: skip
"""A model of each type that is hosted; of language models there are two more."""

GRANT = (
    "mutation ($input: GrantQuotaInput!) { grantQuota(input: $input) { quota { id } errors { code message path } } }"
)
ARCHIVE = "mutation ($input: ArchiveQuotaInput!) { archiveQuota(input: $input) { quota { id } errors { message } } }"
QUOTAS = """{ workspace { id quotas(includeArchived: true) { id type unit limit used reserved remaining
  entries(first: 50) { nodes { kind usedChange reservedChange } } } } }"""


def hosted_file(folder: Path, provider: FakeProvider) -> str:
    """Write the operator's file, and return its path."""
    models = [*TYPES.items(), ("LLM", "other"), ("LLM", "third")]
    listed = ", ".join(f'{{ name = "{name}", type = "{kind}" }}' for kind, name in models)
    (folder / "key").write_text("sk-hosted-0123456789abcdef\n")
    path = folder / "hosted.toml"
    path.write_text(
        f"[providers.{LLM}]\n"
        f'values = {{ api_key = "file:{folder / "key"}", base_url = "{provider.url}" }}\n'
        f"models = [{listed}]\ncredits = {{ llm = 3, vectors = 2 }}\n"
    )
    return str(path)


@asynccontextmanager
async def hosting(
    database_url: str, redis_url: str, folder: Path, provider: FakeProvider, **more: str
) -> AsyncIterator[Product]:
    """Run a product that hosts the provider; `more` are further variables."""
    given = {"EGRESS_ALLOW": "127.0.0.0/8:*", "GRACE_SECONDS": "0.3", "HOSTED": hosted_file(folder, provider), **more}
    async with running(settings_for(database_url, redis_url, folder, **given)) as product:
        yield product


async def grant(client: Client, unit: str, limit: int | None, **more: Any) -> str:
    """Grant a TRIAL quota, unless `more` says otherwise; return its id."""
    workspace = (await client.data(QUOTAS))["workspace"]["id"]
    given = {"workspaceId": workspace, "provider": LLM, "type": "TRIAL", "unit": unit, "limit": limit} | more
    if "restrictedTo" in given:
        given["restrictedTo"] = [{"provider": LLM, "name": name, "type": "LLM"} for name in given["restrictedTo"]]
    payload = await client.changed(GRANT, **given, idempotencyKey=str(uuid7()))
    found: str = payload["quota"]["id"]
    return found


async def balance(client: Client, quota: str) -> tuple[int, int, list[str]]:
    """Return what is used and reserved of a quota, and the kinds of its changes, the oldest first."""
    (found,) = [one for one in (await client.data(QUOTAS))["workspace"]["quotas"] if one["id"] == quota]
    used, reserved = int(found["used"]), int(found["reserved"])
    entries = found["entries"]["nodes"]
    assert sum(int(entry["usedChange"]) for entry in entries) == used
    assert sum(int(entry["reservedChange"]) for entry in entries) == reserved
    return used, reserved, [entry["kind"] for entry in reversed(entries)]


class LateClock(SystemClock):
    """A clock that is ahead, so that every process seems to have been silent for long."""

    def now(self) -> datetime:
        return super().now() + timedelta(minutes=2)


@asynccontextmanager
async def late_worker(settings: Settings) -> AsyncIterator[Resources]:
    """Open a worker two minutes from now: to it, all processes of today are dead."""
    async with open_resources(settings, kind=processes.WORKER, clock=LateClock()) as resources:
        yield resources
