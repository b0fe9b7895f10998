"""What tests of whole answers share: a server that replays a module's recordings, and a product with its models."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import settings_for, sqlite_in
from tests.product import Product, running
from tests.wire.recordings import Replay


@pytest.fixture(scope="module")
async def replay(request: pytest.FixtureRequest) -> AsyncIterator[Replay]:
    """Return a server of the module's `RECORDINGS`."""
    async with Replay.serve(request.module.RECORDINGS) as server:
        yield server


@pytest.fixture(scope="module")
async def product(
    request: pytest.FixtureRequest,
    sqlite_template: Path,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    replay: Replay,
) -> AsyncIterator[Product]:
    """Return a running product to which the module's `add` has added a model for each recording."""
    folder = tmp_path_factory.mktemp("recordings")
    settings = settings_for(sqlite_in(folder, sqlite_template), redis_url, folder, EGRESS_ALLOW="127.0.0.0/8:*")
    async with running(settings) as started:
        for recording in request.module.RECORDINGS:
            await request.module.add(started, replay.base_url(recording), recording)
        yield started
