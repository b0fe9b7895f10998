"""Rebuilds the prices in the manifests from a pinned public list: for a release, by hand; nothing runs it else.

    pip download --no-deps litellm==1.109.1 genai-prices==0.2.3
    python -m core.manifest_prices litellm-1.109.1-*.whl --as-of 2026-11-21 [--check]
    python -m core.manifest_prices genai_prices-0.2.3-*.whl --as-of 2026-11-21 [--check]

A manifest is rebuilt from the list that its `prices_from` names. Only models that write or embed and are priced by
tokens are looked up; an amount of zero in a list is no price, as it stands for unknown.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from core.manifest_files import FOLDER, read_manifest
from core.price_lists import Prices, read_list

_THEIR_NAMES = {
    "cohere": ("cohere_chat", "cohere"),
    "together": ("together_ai",),
    "fireworks": ("fireworks_ai",),
    "azure_openai": ("azure",),
}
_TYPES = ("LLM", "TEXT_EMBEDDING")
_PARTS = (
    ("input", "input_cost_per_token"),
    ("output", "output_cost_per_token"),
    ("cached_input", "cache_read_input_token_cost"),
    ("cache_write", "cache_creation_input_token_cost"),
    ("hour_cache_write", "cache_creation_input_token_cost_above_1hr"),
)
_BEYOND = re.compile(r"input_cost_per_token_above_([0-9]+)k_tokens")
_MODELS = re.compile(r"(?m)^(?=\[\[(?:base_)?models\]\]$)")
_PRICE = re.compile(r"^price = \{ (?!unit).*\}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A manifest as it should be, and what a person should look at."""

    text: str
    notes: tuple[str, ...]


def rebuilt(text: str, prices: Prices, *, source: str, as_of: str) -> Rebuilt:
    """Return a manifest's text with the prices of a list; everything else stays as it is written."""
    name = str(tomllib.loads(text)["name"])
    head, *blocks = re.split(_MODELS, text)
    notes: list[str] = []
    made = [_block(block, name, prices, notes) for block in blocks]
    if made != blocks:
        head = re.sub(r'^prices_from = ".*"$', f'prices_from = "{source}"', head, flags=re.MULTILINE)
        head = re.sub(r'^prices_as_of = ".*"$', f'prices_as_of = "{as_of}"', head, flags=re.MULTILINE)
    return Rebuilt("".join([head, *made]), tuple(notes))


def _block(block: str, provider: str, prices: Prices, notes: list[str]) -> str:
    """Return one model's entry with its price; one that is not priced by tokens as it is."""
    found, tables = _PRICE.search(block), tomllib.loads(block)
    model = (tables.get("models") or tables["base_models"])[0]
    if found is None or model["type"] not in _TYPES:
        return block
    name = str(model["name"])
    entry = _entry(provider, name, prices)
    if entry is None:
        notes.append(f"{provider}/{name}: the list has no price; what stands there is kept")
        return block
    amounts = dict(_amounts(entry))
    if model["type"] == "TEXT_EMBEDDING":
        amounts = {"input": amounts["input"]}
    line = f"price = {_table(amounts)}"
    if line != found[0]:
        notes.append(f"{provider}/{name}: {found[0]} -> {line}")
    return block[: found.start()] + line + block[found.end() :]


def _entry(provider: str, name: str, prices: Prices) -> Mapping[str, Any] | None:
    for theirs in _THEIR_NAMES.get(provider, (provider,)):
        for key in (f"{theirs}/{name}", name):
            entry = prices.get(key)
            if entry is not None and entry.get("litellm_provider") == theirs and entry.get("input_cost_per_token"):
                return entry
    return None


def _amounts(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the parts of a price, the one of long input last."""
    yield from _million(entry, "")
    above = sorted(int(found[1]) for key in entry if (found := _BEYOND.fullmatch(key)) and entry[key])
    if above:
        beyond = dict(_million(entry, f"_above_{above[0]}k_tokens"))
        table = ", ".join(f'{part} = "{amount}"' for part, amount in beyond.items())
        yield "beyond", f"{{ above_input_tokens = {above[0] * 1000}, {table} }}"


def _million(entry: Mapping[str, Any], ending: str) -> Iterator[tuple[str, str]]:
    for part, key in _PARTS:
        if entry.get(key + ending):
            yield part, format((Decimal(str(entry[key + ending])) * 1_000_000).normalize(), "f")


def _table(amounts: Mapping[str, str]) -> str:
    parts = (f"{part} = {amount}" if part == "beyond" else f'{part} = "{amount}"' for part, amount in amounts.items())
    return f"{{ {', '.join(parts)} }}"


def main() -> None:
    """Rebuild the manifests that ship, or with `--check` say what would change."""
    parser = argparse.ArgumentParser(description="Rebuild the prices in the manifests from a list in a wheel.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--as-of", required=True, help="the date of the list, YYYY-MM-DD")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where something would change")
    given = parser.parse_args()
    source, prices = read_list(given.wheel, given.as_of)
    differs = False
    for path in sorted(FOLDER.glob("*.toml")):
        text = path.read_text("utf-8")
        if str(tomllib.loads(text).get("prices_from", "")).partition(" ")[0] != source.partition(" ")[0]:
            continue
        made = rebuilt(text, prices, source=source, as_of=given.as_of)
        differs |= made.text != text
        sys.stdout.writelines(f"{note}\n" for note in made.notes)
        if not given.check and made.text != text:
            path.write_text(made.text, "utf-8")
            read_manifest(path)
    sys.exit(1 if given.check and differs else 0)


if __name__ == "__main__":
    main()
