"""A child process that never outlives its parent, however the parent dies."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# The shell holds the read end of a pipe whose write end lives in the parent alone. End of file means that the parent is
# gone, even by SIGKILL: the child gets SIGTERM, and SIGKILL if it is still there after 15 seconds. A process of its own
# session, so that Ctrl-C reaches the parent only and the parent decides the order. Once the child runs, the shell's own
# remarks ("Terminated") go nowhere: who reads the log cares about the child's.
_SHELL = """
exec 3<&0 </dev/null
trap : TERM INT HUP
"$@" 3<&- &
child=$!
(
  trap '' TERM INT HUP
  read -r _ <&3
  kill -TERM $child 2>/dev/null
  left=150
  while [ $left -gt 0 ] && kill -0 $child 2>/dev/null; do sleep 0.1; left=$((left - 1)); done
  kill -KILL $child 2>/dev/null
) >/dev/null 2>&1 &
watch=$!
exec 2>/dev/null
while :; do
  wait $child
  code=$?
  kill -0 $child 2>/dev/null || break
done
kill -KILL $watch 2>/dev/null
exit $code
"""


@dataclass(slots=True)
class Watched:
    """A running child. Ends by `stop`, by itself, or with the process that started it."""

    name: str
    process: subprocess.Popen[bytes]
    _pipe: int

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        output: int | IO[Any] | None = None,
        user: str | None = None,
    ) -> "Watched":
        """Start a command; `output` takes both its streams, None leaves them as the parent's."""
        read, write = os.pipe()
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL, "sh", *map(str, command)],
                stdin=read,
                stdout=output,
                stderr=output,
                env=dict(env) if env is not None else None,
                cwd=folder,
                start_new_session=True,
                user=user,
            )
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
        return cls(name, process, write)

    @property
    def code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.process.poll()

    def stop(self, seconds: float, *, hurry: Callable[[], bool] = lambda: False) -> None:
        """Ask the child to end, wait, and kill it when it takes longer or `hurry` says so."""
        if self.code is None:
            self._signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.code is None and time.monotonic() < deadline and not hurry():
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """End the child and all that it started, now."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            return
