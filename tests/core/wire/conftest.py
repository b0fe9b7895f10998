"""A misbehaving provider and a client that may reach it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from core.wire.egress import Egress
from core.wire.http import Http
from tests.fake_provider import FakeProvider


@pytest.fixture(scope="session")
def running_provider() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
async def provider(running_provider: FakeProvider) -> AsyncIterator[FakeProvider]:
    running_provider.reset()
    yield running_provider
    await asyncio.to_thread(running_provider.wait_until_quiet)


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http.open(egress=Egress(["127.0.0.1:*"])) as client:
        yield client
