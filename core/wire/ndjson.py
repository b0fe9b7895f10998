"""Lines of JSON: bytes as the network cuts them, in; whole lines, out."""

from core.errors import UpstreamProtocol
from core.wire.sse import EVENT_LIMIT


class LineDecoder:
    """Decodes one stream; lines end in LF or CRLF, and those that hold nothing are left out."""

    __slots__ = ("_limit", "_partial")

    def __init__(self, *, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._partial = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes.

        Raises:
            UpstreamProtocol: one line is larger than the limit.
        """
        if b"\n" not in chunk:
            self._partial += chunk
            self._check(len(self._partial))
            return []
        *lines, rest = (bytes(self._partial) + chunk).split(b"\n")
        self._partial[:] = rest
        self._check(max(len(self._partial), *map(len, lines)))
        return [line for line in lines if line.strip()]

    def end(self) -> list[bytes]:
        """Return a line that the end of the stream left without its end, if there is one."""
        return self.feed(b"\n")

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise UpstreamProtocol(
                f"The provider sent a line of more than {self._limit // 1024} KiB; the answer cannot be read."
            )
