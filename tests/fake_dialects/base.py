"""What all dialects of the fake provider share: the scenario of an answer, the request, and how texts are cut."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import unquote

from tests import fake_tasks

_MODEL_IN_PATH = re.compile(r"/models/([^?]+):\w*[gG]enerateContent")

Ending = Literal["done", "no_done", "eof", "cut", "stall"]
Usage = Literal["asked", "always", "last_chunk", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How one request is answered.

    `ending` is what follows the content of a stream: the finish reason with `[DONE]` or without, nothing at all (a clean
    end), a dropped connection, or silence on an open one. `events` follow the content of a stream in place of its finish
    reason and marker. `body` replaces the whole answer. `halts_after` so many events of a stream, or before an answer that
    is none, it waits until the server is told to go on.
    """

    text: str = "Hello from the fake provider."
    pieces: int = 5
    reasoning: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    finish: str | None = "stop"
    usage: Usage = "asked"
    ending: Ending = "done"
    first_delay_s: float = 0.0
    delay_s: float = 0.0
    halts_after: int | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    body: bytes | None = None
    events: tuple[bytes, ...] | None = None
    refuses_stream_options: bool = False
    ignores_stream: bool = False
    never_answers: bool = False
    hangs_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that the server received; `json` is its body, or None where that is no JSON."""

    method: str
    path: str
    headers: Mapping[str, str]
    json: Any
    body: bytes = b""

    @property
    def key(self) -> str:
        """Return the key that it was sent with; "" for none."""
        named = (self.headers.get(name) for name in ("x-api-key", "x-goog-api-key", "api-key", "xi-api-key"))
        return next(filter(None, named), self.headers.get("authorization", "").removeprefix("Bearer "))

    @property
    def route(self) -> str:
        """Return the path without its query."""
        return self.path.partition("?")[0]

    @property
    def model(self) -> str:
        """Return the model that it asks for; "" for none."""
        if named := _MODEL_IN_PATH.search(self.path):
            return unquote(named[1])
        if self.headers.get("content-type", "").startswith("multipart/form-data"):
            return str(fake_tasks.form(self).get("model", ""))
        return str(self.json.get("model", "")) if isinstance(self.json, dict) else ""

    @property
    def streams(self) -> bool:
        """Tell whether it asks for a stream."""
        if not isinstance(self.json, dict):
            return False
        return ":streamGenerateContent" in self.path or self.json.get("stream", self.path.endswith("/api/chat")) is True


class Dialect(Protocol):
    """A module that speaks one dialect. `SCENARIOS` has the names that all dialects have."""

    SCENARIOS: Mapping[str, Scenario]
    MEDIA_TYPE: str

    def content(self, request: Request, scenario: Scenario) -> Iterator[bytes]:
        """Yield the events of a stream, and what its ending says of the end."""
        ...

    def completion(self, request: Request, scenario: Scenario) -> bytes:
        """Return a whole answer."""
        ...

    def about(self, request: Request) -> bytes | None:
        """Answer what is no completion: lists of models, checks of keys; None where it is one."""
        ...


def sse(body: dict[str, Any], name: str = "", *, end: bytes = b"\n\n") -> bytes:
    """Return a server-sent event."""
    event = f"event: {name}\n" if name else ""
    return event.encode() + b"data: " + json.dumps(body, ensure_ascii=False).encode() + end


def cut(text: str, pieces: int) -> Iterator[str]:
    """Cut a text into at most that many pieces; a text shorter than that is repeated where it says so itself."""
    if len(text) < pieces and text.endswith(" "):
        for _ in range(pieces):
            yield text
        return
    size = max(-(-len(text) // pieces), 1)
    for start in range(0, len(text), size):
        yield text[start : start + size]
