"""The benchmark runs; what it measures is for a person to read, never for a test to judge."""

import pytest

from tests.bench.__main__ import main


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["-w", "W1", "W2", "--repeats", "1", "--scale", "0.01"])

    said = capsys.readouterr().out
    assert code == 0, said
    assert "| W1: not streamed, 32 at once | CPU ms a completion |" in said
    assert "Calls that failed: 0." in said
