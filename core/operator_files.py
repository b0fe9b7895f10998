"""The operator's own files: TOML, in which a value may refer to an environment variable or to a file."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from core.secret import Secret

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFile:
    """A file that was read: where it stands, and its tables."""

    path: Path
    tables: Mapping[str, Any] = field(repr=False)


def read_products(path: Path) -> OperatorFile:
    """Return the file of products. ValueError says what is wrong."""
    return OperatorFile(path=path, tables=read_toml(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a file. ValueError says what is wrong."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"names {str(path)!r}, which cannot be read: {type(error).__name__}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"names {str(path)!r}, which is no TOML: {error}") from None


def read_hosted(path: Path, environ: Mapping[str, str]) -> OperatorFile:
    """Return the file of hosted providers, the credential values that refer elsewhere as Secret.

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
    return OperatorFile(path=path, tables=tables)


def entries_of(file: OperatorFile, table: str, kind: type[T]) -> tuple[dict[str, T], list[str]]:
    """Return the entries of the one table that a file may have, by name, and what is wrong with them, a line each."""
    unknown = [f"{name}: there is no such key; entries are [{table}.NAME]" for name in file.tables if name != table]
    given = file.tables.get(table, {})
    if not isinstance(given, dict):
        return {}, [f"{table}: entries are tables, [{table}.NAME]"]
    found: dict[str, T] = {}
    for name, entry in given.items():
        try:
            found[name] = msgspec.convert(entry, kind, dec_hook=_as_it_is)
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at `$")
            unknown.append(f"{table}.{name}{place.rstrip('`')}: {problem[0].lower()}{problem[1:]}")
    return found, unknown


def _as_it_is(kind: type, value: object) -> object:
    return value


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
