"""The providers of this installation: each manifest joined with the adapter that its dialect names."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from core.manifest_files import ManifestError, read_manifests
from core.provider import Manifest, Provider
from core.providers import anthropic, azure_openai, echo, elevenlabs, gemini, openai, openai_compatible, xinference
from core.wire.http import Http

Builder = Callable[[Manifest, Http], Provider]
BUILDERS: Mapping[str, Builder] = {
    "anthropic": anthropic.build,
    "gemini": gemini.build,
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
    """Providers by canonical name, and the other names that inputs accept."""

    providers: Mapping[str, Provider]
    aliases: Mapping[str, str] = field(default_factory=dict)

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


def discover(http: Http, *, echo: bool) -> Catalog:
    """Return the catalog of the manifests that ship; `echo` admits the built-in provider of that name.

    Raises:
        ManifestError: a manifest is wrong, or names a dialect that is not there.
    """
    return catalog_of((manifest for manifest in read_manifests() if echo or manifest.name != "echo"), http)


def catalog_of(manifests: Iterable[Manifest], http: Http) -> Catalog:
    """Return the catalog of these manifests.

    Raises:
        ManifestError: two claim a name, one names a dialect that is not there, or options that its dialect has not.
    """
    providers: dict[str, Provider] = {}
    aliases: dict[str, str] = {}
    for manifest in manifests:
        build = BUILDERS.get(manifest.dialect)
        if build is None:
            raise ManifestError(f"{manifest.name}: there is no dialect {manifest.dialect!r}")
        for name in (manifest.name, *manifest.aliases):
            if name in providers or name in aliases:
                raise ManifestError(f"{manifest.name}: the name {name!r} is another provider's already")
        try:
            providers[manifest.name] = build(manifest, http)
        except msgspec.ValidationError as error:
            raise ManifestError(f"{manifest.name}: `options`: {error}") from error
        aliases |= dict.fromkeys(manifest.aliases, manifest.name)
    return Catalog(providers, aliases)
