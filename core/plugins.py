"""Adapters in installed packages, found by entry point; one that is broken is named and harms nothing else."""

import inspect
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from core.provider import Manifest, Provider
from core.wire.http import Http

GROUP = "modelyard.providers"
API_VERSION = 1
"""Raised when an adapter written before would no longer do."""

EVERY = "*"

Builder = Callable[[Manifest, Http], Provider]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """What an entry point of the group `modelyard.providers` names.

    The entry point's name is the `dialect` by which manifests ask for `build`; those of the folder `manifests` come
    along.
    """

    build: Builder
    manifests: Path | None = None
    api_version: int = API_VERSION


class PluginError(Exception):
    """A package's adapter cannot be used; the message names the package and says why."""


def find_plugins(allowed: Collection[str]) -> Iterator[tuple[str, Plugin | PluginError]]:
    """Yield the adapters of installed packages by the dialect that they add, or why one is not used.

    `allowed` are the names of distributions whose code is run; `*` is every one.
    """
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            yield point.name, _load(point, allowed)
        except PluginError as error:
            yield point.name, error


def _load(point: EntryPoint, allowed: Collection[str]) -> Plugin:
    package = point.dist.name if point.dist is not None else point.value
    where = f"The adapter {point.name!r} of the package {package!r}"
    if EVERY not in allowed and _plain(package) not in {_plain(name) for name in allowed}:
        raise PluginError(f"{where} is installed but not allowed; name the package in MODELYARD_PLUGINS to use it.")
    try:
        plugin = point.load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(plugin, Plugin):
        raise PluginError(f"{where} is no core.plugins.Plugin but {type(plugin).__name__}.")
    if plugin.api_version != API_VERSION:
        raise PluginError(f"{where} was written for version {plugin.api_version} of this API, which is {API_VERSION}.")
    if not callable(plugin.build) or inspect.iscoroutinefunction(plugin.build):
        raise PluginError(f"{where} has a `build` that is no plain function.")
    return plugin


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
