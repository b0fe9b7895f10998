"""One running product for each test of this folder, on SQLite, with a provider that misbehaves on request."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.settings import Settings
from tests.conftest import settings_for, sqlite_in
from tests.fake_provider import FakeProvider
from tests.product import Product, running


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[FakeProvider]:
    """Return the one provider of the session."""
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def provider(shared_provider: FakeProvider) -> FakeProvider:
    """Return the provider, with nothing set."""
    shared_provider.reset()
    return shared_provider


@pytest.fixture
def grace_s() -> str:
    """Return how long a call goes on that nobody reads: a moment, where a test does not come back to it."""
    return "0.3"


@pytest.fixture
def first_byte_s() -> str:
    """Return how long a provider may take to answer: longer than any test, where none waits for the end of it."""
    return "60"


@pytest.fixture
def idle_s() -> str:
    """Return how long a provider may pause: longer than any test, where none waits for the end of it."""
    return "60"


@pytest.fixture
def product_settings(
    sqlite_template: Path, redis_url: str, tmp_path: Path, grace_s: str, first_byte_s: str, idle_s: str
) -> Settings:
    """Return settings with times that a test may set."""
    return settings_for(
        sqlite_in(tmp_path, sqlite_template),
        redis_url,
        tmp_path,
        EGRESS_ALLOW="127.0.0.0/8:*",
        GRACE_SECONDS=grace_s,
        FIRST_BYTE_SECONDS=first_byte_s,
        IDLE_SECONDS=idle_s,
    )


@pytest.fixture
async def product(product_settings: Settings) -> AsyncIterator[Product]:
    """Return the running product."""
    async with running(product_settings) as started:
        yield started


@pytest.fixture
async def no_tasks_left() -> AsyncIterator[None]:
    """Check that a test leaves no task behind."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0.05)
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert not left, left
