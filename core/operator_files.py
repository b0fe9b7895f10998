"""The operator's own files: TOML, in which a value may refer to an environment variable or to a file."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.secret import Secret


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a file. ValueError says what is wrong."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"names {str(path)!r}, which cannot be read: {type(error).__name__}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"names {str(path)!r}, which is no TOML: {error}") from None


def read_hosted(path: Path, environ: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the tables of the file of hosted providers, the credential values that refer elsewhere as Secret.

    Raises:
        ValueError: the file cannot be read, or a reference leads nowhere; never with a value.
    """
    tables = read_toml(path)
    providers = tables.get("providers", {})
    for name, entry in providers.items() if isinstance(providers, dict) else ():
        values = entry.get("values") if isinstance(entry, dict) else None
        if isinstance(values, dict):
            entry["values"] = {
                field: _value(text, environ, f"providers.{name}.values.{field}") for field, text in values.items()
            }
    return tables


def _value(text: object, environ: Mapping[str, str], place: str) -> object:
    """Return what a value stands for: `env:NAME` the variable, `file:PATH` the file's text, anything else itself."""
    if not isinstance(text, str):
        return text
    kind, _, rest = text.partition(":")
    if kind == "env":
        found = environ.get(rest, "")
        if not found:
            raise ValueError(f"names in {place} the variable {rest}, which is not set")
        return Secret(found)
    if kind == "file":
        try:
            found = Path(rest).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"names in {place} the file {rest!r}, which cannot be read: {type(error).__name__}"
            ) from None
        if not found:
            raise ValueError(f"names in {place} the file {rest!r}, which is empty")
        return Secret(found)
    return text
