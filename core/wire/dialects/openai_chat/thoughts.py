"""Reasoning of chat completion servers as it goes back to them: under the names that they gave it."""

from collections.abc import Mapping
from typing import Any

from core.continuation import Layout, arranged
from core.model_types.llm import Message
from core.wire.dialects.openai_chat.chunks import Delta

_TEXTS = ("reasoning_content", "reasoning")
_DETAILS = "reasoning_details"
_GROWING = ("text", "summary")


class Thoughts:
    """What one answer has thought. `provider` is who can take it back; None: nobody."""

    __slots__ = ("_details", "_provider", "_texts")

    def __init__(self, provider: str | None) -> None:
        self._provider = provider
        self._texts: dict[str, list[str]] = {}
        self._details: list[dict[str, Any]] = []

    def add(self, delta: Delta) -> None:
        """Add what a delta says of them."""
        for name in _TEXTS:
            if text := getattr(delta, name):
                self._texts.setdefault(name, []).append(text)
        details = delta.reasoning_details
        for detail in details if isinstance(details, list) else ():
            if isinstance(detail, dict):
                self._add_detail(detail)

    def sealed(self) -> str | None:
        """Return the continuation; None where there is nothing to give back."""
        if self._provider is None:
            return None
        found: dict[str, Any] = {name: "".join(texts) for name, texts in self._texts.items()}
        if self._details:
            found[_DETAILS] = self._details
        layout = Layout()
        layout.block(found)
        return layout.sealed(self._provider)

    def _add_detail(self, detail: dict[str, Any]) -> None:
        """Add a block, or more of the one that is open: OpenRouter streams the text of a block in pieces."""
        last = self._details[-1] if self._details else None
        grows = [name for name in _GROWING if isinstance(detail.get(name), str)]
        if last is None or not grows or any(last.get(name) != detail.get(name) for name in ("type", "index")):
            self._details.append(dict(detail))
            return
        texts = {name: (last.get(name) or "") + detail[name] for name in grows}
        last.update({name: value for name, value in detail.items() if value is not None} | texts)


def thoughts_of(message: Message, provider: str | None, number: int) -> Mapping[str, Any]:
    """Return the fields by which an assistant's message gives this provider its reasoning back.

    Raises:
        InvalidInput: the continuation is none.
    """
    if message.continuation is None or provider is None:
        return {}
    parts = arranged(message, provider, ("messages", str(number)))
    return {name: value for part in parts for name, value in part.extra.items() if name in (*_TEXTS, _DETAILS)}
