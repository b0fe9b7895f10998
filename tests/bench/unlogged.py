"""`python -m tests.bench.unlogged`: an API process that keeps no event log, to know what the log costs."""

import sys

from core.recorder import Recorder
from core.stream import End, EventStream
from web.__main__ import main


def _track(recorder: Recorder, stream: EventStream) -> None:
    """Write nothing."""


async def _end(recorder: Recorder, stream: EventStream, event: End) -> End:
    return event


if __name__ == "__main__":
    setattr(Recorder, "track", _track)  # noqa: B010 - a method of a class that is not ours to change elsewhere
    setattr(Recorder, "end", _end)  # noqa: B010
    sys.exit(main())
