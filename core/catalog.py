"""The providers of this installation: each manifest joined with the adapter that its dialect names."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from core.manifest_files import ManifestError, read_manifest, read_manifests
from core.plugins import Builder, PluginError, find_plugins
from core.provider import Manifest, Provider
from core.providers import (
    anthropic,
    azure_openai,
    cohere,
    echo,
    elevenlabs,
    gemini,
    ollama,
    openai,
    openai_compatible,
    xinference,
)
from core.wire.http import Http

log = logging.getLogger(__name__)

BUILDERS: Mapping[str, Builder] = {
    "anthropic": anthropic.build,
    "cohere": cohere.build,
    "gemini": gemini.build,
    "ollama": ollama.build,
    "openai": openai.build,
    "openai_compatible": openai_compatible.build,
    "azure_openai": azure_openai.build,
    "xinference": xinference.build,
    "elevenlabs": elevenlabs.build,
    "echo": echo.build,
}
"""How a provider is built, by its manifest's `dialect`."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Providers by canonical name, the other names that inputs accept, and what was left out and why."""

    providers: Mapping[str, Provider]
    aliases: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def canonical(self, name: str) -> str | None:
        """Return the canonical name of a provider, however it is written; None where there is none."""
        plain = "_".join(name.strip().lower().replace("-", " ").replace("_", " ").split())
        plain = self.aliases.get(plain, plain)
        return plain if plain in self.providers else None

    def provider(self, name: str) -> Provider | None:
        """Return the provider of a canonical name."""
        return self.providers.get(name)

    def manifest(self, name: str) -> Manifest | None:
        """Return the manifest of a canonical name."""
        provider = self.providers.get(name)
        return provider.manifest if provider is not None else None

    def manifests(self) -> list[Manifest]:
        """Return all manifests, in their order."""
        return sorted(
            (provider.manifest for provider in self.providers.values()),
            key=lambda manifest: (manifest.position, manifest.name),
        )


def discover(http: Http, *, echo: bool, folder: Path | None = None, plugins: Collection[str] = ()) -> Catalog:
    """Return the catalog of the manifests that ship, of an operator's folder, and of allowed packages.

    `echo` admits the built-in provider of that name. What is wrong outside of what ships is left out; the catalog's
    `problems` tell of it.

    Raises:
        ManifestError: a manifest that ships is wrong, or names a dialect that is not there.
    """
    joining = _Joining(http)
    for manifest in _shipped():
        if echo or manifest.name != "echo":
            joining.add(manifest)
    for dialect, found in find_plugins(plugins):
        if isinstance(found, PluginError):
            joining.problems.append(str(found))
        elif joining.builders.setdefault(dialect, found.build) is not found.build:
            joining.problems.append(f"The dialect {dialect!r} of a package is another's already.")
        elif found.manifests is not None:
            joining.add_folder(found.manifests)
    if folder is not None:
        joining.add_folder(folder)
    for problem in joining.problems:
        log.error("a provider is left out: %s", problem)
    return joining.catalog()


@cache
def _shipped() -> tuple[Manifest, ...]:
    """Return the manifests that ship, which are read once in a process."""
    return tuple(read_manifests())


def catalog_of(manifests: Iterable[Manifest], http: Http) -> Catalog:
    """Return the catalog of these manifests.

    Raises:
        ManifestError: two claim a name, one names a dialect that is not there, or options that its dialect has not.
    """
    joining = _Joining(http)
    for manifest in manifests:
        joining.add(manifest)
    return joining.catalog()


class _Joining:
    """Joins manifests with their adapters, one after the other."""

    def __init__(self, http: Http) -> None:
        self.builders = dict(BUILDERS)
        self.problems: list[str] = []
        self._http = http
        self._providers: dict[str, Provider] = {}
        self._aliases: dict[str, str] = {}

    def add(self, manifest: Manifest) -> None:
        """Add a provider.

        Raises:
            ManifestError: its name is taken, its dialect is not there, or does not have its options.
        """
        build = self.builders.get(manifest.dialect)
        if build is None:
            raise ManifestError(f"{manifest.name}: there is no dialect {manifest.dialect!r}")
        for name in (manifest.name, *manifest.aliases):
            if name in self._providers or name in self._aliases:
                raise ManifestError(f"{manifest.name}: the name {name!r} is another provider's already")
        try:
            self._providers[manifest.name] = build(manifest, self._http)
        except msgspec.ValidationError as error:
            raise ManifestError(f"{manifest.name}: `options`: {error}") from error
        self._aliases |= dict.fromkeys(manifest.aliases, manifest.name)

    def add_folder(self, folder: Path) -> None:
        """Add what is right of a folder, and note what is wrong."""
        if not folder.is_dir():
            self.problems.append(f"There is no folder of manifests {str(folder)!r}.")
            return
        for path in sorted(folder.glob("*.toml")):
            try:
                self.add(read_manifest(path))
            except ManifestError as error:
                self.problems.append(str(error))
            except Exception as error:
                self.problems.append(f"{path.name}: its adapter cannot be built: {type(error).__name__}: {error}")

    def catalog(self) -> Catalog:
        """Return what was joined."""
        return Catalog(self._providers, self._aliases, tuple(self.problems))
