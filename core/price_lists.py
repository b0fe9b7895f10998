"""The public lists of prices that manifests are rebuilt from: a wheel of litellm, or one of genai-prices."""

import importlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

Prices = Mapping[str, Mapping[str, Any]]

_LIST = "litellm/model_prices_and_context_window_backup.json"
_WHEEL = re.compile(r"(litellm|genai_prices)-([0-9.]+)-")
_ROUTERS = ("openrouter",)
"""Whose prices are taken from genai-prices: litellm has none of them."""

_PARTS = {
    "input_cost_per_token": "input_mtok",
    "output_cost_per_token": "output_mtok",
    "cache_read_input_token_cost": "cache_read_mtok",
    "cache_creation_input_token_cost": "cache_write_mtok",
}
_MORE = ("requests_kcount", "output_reasoning_mtok")
"""What a call may be charged for besides; a model with such a price is left out, as half a price is none."""


def read_list(path: Path, as_of: str) -> tuple[str, Prices]:
    """Return the name of a list with its version, and its entries in litellm's form with exact numbers.

    `as_of`, YYYY-MM-DD, decides where a list has prices of several times.
    """
    found = _WHEEL.search(path.name)
    if found is None:
        raise ValueError(f"{path.name} is not named as a wheel of litellm or genai-prices is")
    if found[1] == "litellm":
        with zipfile.ZipFile(path) as wheel:
            return f"litellm {found[2]}", json.loads(wheel.read(_LIST), parse_float=Decimal)
    at = datetime.fromisoformat(as_of).replace(tzinfo=UTC)
    return f"genai-prices {found[2]}", dict(_routed(path, at))


def _routed(wheel: Path, at: datetime) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of routers. The list is code, so that what it needs (pydantic, httpx2) has to be installed."""
    sys.path.insert(0, str(wheel))
    try:
        providers = importlib.import_module("genai_prices.data").providers
    finally:
        sys.path.remove(str(wheel))
    for provider in providers:
        for model in provider.models if provider.id in _ROUTERS else ():
            prices = vars(model.get_prices(at))
            if not any(prices.get(name) for name in _MORE):
                yield model.id, {"litellm_provider": provider.id, **dict(_entry(prices))}


def _entry(prices: Mapping[str, Any]) -> Iterator[tuple[str, Decimal]]:
    """Yield the amounts of one model for a token each; those of long input by the start of their first tier."""
    for key, name in _PARTS.items():
        price = prices.get(name)
        if price is None:
            continue
        tiers = getattr(price, "tiers", ())
        yield key, getattr(price, "base", price) / 1_000_000
        if tiers:
            yield f"{key}_above_{tiers[0].start // 1000}k_tokens", tiers[0].price / 1_000_000
