"""The benchmark runs; what it measures is for a person to read, never for a test to judge."""

import pytest

from tests.bench import picks
from tests.bench.__main__ import main
from tests.bench.decoding import DIALECTS, cost_us, spoken_streams
from tests.wire.dialects import SPOKEN


def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["-w", "W1", "W2", "--repeats", "1", "--scale", "0.01"])

    said = capsys.readouterr().out
    assert code == 0, said
    assert "| W1: not streamed, 32 at once | CPU ms a completion |" in said
    assert "Calls that failed: 0." in said


def test_decoding_is_measured_in_every_dialect_that_is_spoken() -> None:
    streams = {name: (decoder, chunks) for name, decoder, chunks in spoken_streams()}

    assert {SPOKEN[name].provider for name in DIALECTS} == {"openai", *(one.provider for one in SPOKEN.values())}
    assert len(streams) == 2 * len(DIALECTS)
    assert all(cost_us(decoder, chunks[:10]) > 0 for decoder, chunks in streams.values())


def test_the_benchmark_of_picks_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = picks.main(["--picks", "64", "--repeats", "1"])

    said = capsys.readouterr().out
    assert code == 0, said
    assert "| LOWEST_LATENCY | 50 |" in said
