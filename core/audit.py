"""How a change is told in the audit log."""

from collections.abc import Mapping
from typing import Any


def changes(**fields: tuple[Any, Any]) -> Mapping[str, Any]:
    """Return the fields that differ, each with its value before (`from`) and after (`to`); never given a secret."""
    return {name: {"from": before, "to": after} for name, (before, after) in fields.items() if before != after}
