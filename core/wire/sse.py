"""Server-sent events: bytes as the network cuts them, in; the data of whole events, out.

Names of events are not told: every provider's JSON repeats them, and streams without a name must work alike.
"""

from core.errors import UpstreamProtocol

EVENT_LIMIT = 4 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class EventDecoder:
    """Decodes one stream. Lines end in LF, CRLF or CR; several `data` lines of an event are joined by LF."""

    __slots__ = ("_at_start", "_data", "_ended_in_cr", "_limit", "_partial", "_size")

    def __init__(self, *, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self._partial = bytearray()  # an unfinished line
        self._data: list[bytes] = []  # data lines of an unfinished event
        self._size = 0
        self._ended_in_cr = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that `chunk` completes.

        Raises:
            UpstreamProtocol: one event is larger than the limit.
        """
        if self._ended_in_cr and chunk:
            self._ended_in_cr = False
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF
        if b"\r" in chunk:
            self._ended_in_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        if self._partial:
            chunk = bytes(self._partial + chunk)
            self._partial.clear()
        if self._at_start:
            self._at_start = False
            chunk = chunk.removeprefix(_BOM)
        return self._events(chunk)

    def end(self) -> list[bytes]:
        """Return the data of an event that the end of the stream left without its blank line, if there is one."""
        return self.feed(b"\n\n")

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._partial += piece
            self._check(self._size + len(self._partial))

    def _events(self, text: bytes) -> list[bytes]:
        """Decode text that has a line end, after a whole line."""
        *blocks, rest = text.split(b"\n\n")
        events: list[bytes] = []
        if self._data and blocks:
            self._lines(blocks.pop(0) + b"\n\n", events)
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:  # nearly every event there is
                if len(block) > self._limit:
                    self._check(len(block))
                events.append(block[6:])
            else:
                self._lines(block + b"\n\n", events)
        if rest:
            whole, end, piece = rest.rpartition(b"\n")
            self._lines(whole + end, events)
            self._keep(piece)
        return events

    def _lines(self, text: bytes, events: list[bytes]) -> None:
        """Decode whole lines one by one."""
        for line in text.split(b"\n")[:-1]:
            if line.startswith(b"data"):
                self._field(line)
            elif not line and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._size += len(line)
            self._check(self._size)
            self._data.append(value.removeprefix(b" "))

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise UpstreamProtocol(
                f"The provider sent an event of more than {self._limit // 1024} KiB; the answer cannot be read."
            )
