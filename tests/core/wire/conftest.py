"""A misbehaving provider and a client that may reach it."""

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
def provider(running_provider: FakeProvider) -> Iterator[FakeProvider]:
    running_provider.reset()
    yield running_provider
    running_provider.wait_until_quiet()


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with Http.open(egress=Egress(["127.0.0.1:*"])) as client:
        yield client
