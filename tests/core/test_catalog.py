"""The providers of an installation."""

from dataclasses import replace
from typing import cast

import pytest

from core.catalog import Catalog, catalog_of, discover
from core.listing import lists_models
from core.manifest_files import ManifestError
from core.provider import ConfigurationMethod, Manifest
from core.wire.egress import Egress
from core.wire.http import Http
from tests.catalogs import CATALOG


def manifest(name: str, **changed: object) -> Manifest:
    found = CATALOG.manifest("openai_compatible")
    assert found is not None
    return replace(found, name=name, **{"aliases": (), **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("openai", "openai"),
        (" OpenAI ", "openai"),
        ("Open-AI", "openai"),
        ("OpenAI-compatible", "openai_compatible"),
        ("openai  compatible", "openai_compatible"),
        ("OPENAI__API_COMPATIBLE", "openai_compatible"),
        ("echo", "echo"),
        ("", None),
        ("-", None),
        ("openai2", None),
        ("open\x00ai", None),
        ("anthropic" * 1000, None),
    ],
)
def test_a_provider_is_found_however_it_is_written(written: str, canonical: str | None) -> None:
    assert CATALOG.canonical(written) == canonical


def test_an_unknown_name_is_nobody() -> None:
    assert CATALOG.provider("other") is None
    assert CATALOG.manifest("other") is None
    assert CATALOG.manifest("open_ai") is None, "data holds canonical names only"


def test_manifests_come_in_their_order() -> None:
    made = catalog_of([manifest("b", position=2), manifest("a", position=2), manifest("c", position=1)], _nobody())

    assert [one.name for one in made.manifests()] == ["c", "a", "b"]


async def test_echo_is_there_only_when_it_is_admitted() -> None:
    async with Http.open(egress=Egress(())) as http:
        without, with_echo = discover(http, echo=False), discover(http, echo=True)

    assert _names(without) >= {"openai", "openai_compatible", "anthropic"}
    assert _names(with_echo) - _names(without) == {"echo"}
    assert without.canonical("echo") is None


def test_a_further_compatible_provider_is_a_manifest_and_no_code() -> None:
    made = catalog_of([manifest("vendor", options={"base_url": "https://api.vendor.test/v1"})], _nobody())

    provider = made.provider("vendor")
    assert provider is not None
    assert provider.llm is not None
    assert provider.manifest.name == "vendor"


@pytest.mark.parametrize(
    ("manifests", "why"),
    [
        ([manifest("a", dialect="morse")], "a: there is no dialect 'morse'"),
        ([manifest("a"), manifest("a")], "a: the name 'a' is another"),
        ([manifest("a"), manifest("b", aliases=("a",))], "b: the name 'a' is another"),
        ([manifest("a", aliases=("x",)), manifest("x")], "x: the name 'x' is another"),
        ([manifest("a", aliases=("x",)), manifest("b", aliases=("x",))], "b: the name 'x' is another"),
        ([manifest("a", options={"base_ulr": "https://host"})], "a: `options`: .*base_ulr"),
        ([manifest("a", options={"stream_options": "yes"})], "a: `options`: .*stream_options"),
    ],
)
def test_manifests_that_do_not_fit_are_refused_by_name(manifests: list[Manifest], why: str) -> None:
    with pytest.raises(ManifestError, match=why):
        catalog_of(manifests, _nobody())


def _names(catalog: Catalog) -> set[str]:
    return {found.name for found in catalog.manifests()}


def _nobody() -> Http:
    """Return no client: nothing is called."""
    return cast("Http", None)


def test_models_are_listed_where_adapter_and_manifest_both_say_so() -> None:
    found = {name for name, provider in CATALOG.providers.items() if lists_models(provider)}
    said = {one.name for one in CATALOG.manifests() if ConfigurationMethod.FETCH_FROM_REMOTE in one.methods}

    assert found == said
    assert {"openai", "anthropic", "openrouter", "elevenlabs"} <= found
    assert not {"openai_compatible", "perplexity", "azure_openai", "xinference", "echo"} & found
