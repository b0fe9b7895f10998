"""A short run of `python -m tests.chaos`: whatever dies, every call is settled once and nobody pays for another's."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import Run, run
from tests.engines import scratch


@pytest.fixture
def open_folder() -> Path:
    """Return a folder that a database server of another user may enter."""
    folder = scratch("my-chaos-")
    folder.chmod(0o755)
    return folder


@pytest.mark.parametrize(("engine", "calls"), [("postgresql", 160), ("sqlite", 80)])
async def test_the_books_are_right_whatever_dies(open_folder: Path, engine: str, calls: int) -> None:
    report, fleet = await run(Run(calls=calls, at_once=40, seed=11, engine=engine, hurry=2.5, waits=False), open_folder)

    assert report.faults == []
    assert report.admitted == report.calls
    assert report.cut_share >= 0.3
    assert set(fleet.killed) == {"api", "worker", "valkey"} | ({"database"} if engine == "postgresql" else set())
