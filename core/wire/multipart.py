"""A form with a file, as the body of a request."""

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


def encode_form(
    fields: Mapping[str, Any], *, name: str, filename: str, mime_type: str, content: bytes
) -> tuple[str, bytes]:
    """Return the content type and the body; lists become repeated fields `name[]`, objects JSON."""
    boundary = secrets.token_hex(16)
    parts: list[bytes] = []
    for key, value in _flat(fields):
        parts.append(_part(boundary, f'name="{_quoted(key)}"', value.encode()))
    file = f'name="{_quoted(name)}"; filename="{_quoted(filename)}"\r\nContent-Type: {mime_type}'
    parts.append(_part(boundary, file, content))
    parts.append(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(parts)


def _part(boundary: str, disposition: str, content: bytes) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


def _flat(fields: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in fields.items():
        if isinstance(value, list):
            yield from ((f"{key}[]", _text(one)) for one in value)
        elif value is not None:
            yield key, _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _quoted(text: str) -> str:
    return text.replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
