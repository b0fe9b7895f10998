"""Manifest files: those that ship are sound, and a wrong one is refused by file and key."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.cards import custom_card
from core.forms import check_form
from core.manifest_files import ManifestError, read_manifest, read_manifests
from core.model_types import ModelFeature, ModelType
from core.parameters import check_parameters
from core.provider import ConfigurationMethod, Manifest, ParameterRule
from core.wire.egress import normalise_base_url
from tests.catalogs import CATALOG

GOOD = """
name = "good"
label = "Good"
description = "A provider."
dialect = "openai_compatible"
position = 1
model_types = ["LLM"]
methods = ["PREDEFINED_MODEL", "CUSTOMIZABLE_MODEL"]
prices_from = "its price list"
prices_as_of = "2026-01-01"

[[credential_form]]
name = "api_key"
label = "API key"
type = "SECRET"

[[model_credential_form]]
name = "kind"
label = "Kind"
type = "SELECT"
default = "a"
options = [{ value = "a", label = "A" }, { value = "b", label = "B" }]

[[model_credential_form]]
name = "size"
label = "Size"
type = "NUMBER"
default = "4096"
show_on = [{ field = "kind", value = "a" }]

[[model_credential_form]]
name = "sees"
label = "Sees"
type = "SWITCH"

[custom_model]
context_window = "size"
features = { VISION = "sees" }

[[defaults]]
type = "LLM"
features = ["TOOL_CALL", "VISION"]
max_output_tokens = 100
parameters = ["max_tokens"]

[[models]]
name = "one"
type = "LLM"
max_output_tokens = 200
parameters = ["max_tokens", { use = "temperature", max = 1 }, { name = "own", type = "BOOLEAN" }]
price = { input = "0.1", output = "0.30" }
"""


def write(folder: Path, text: str, name: str = "good.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def rules(of: tuple[ParameterRule, ...]) -> dict[str, ParameterRule]:
    return {rule.name: rule for rule in of}


def test_a_manifest_reads_as_it_is_written(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, GOOD))

    card = manifest.model("one", ModelType.LLM)
    assert card is not None
    assert (card.label, card.position) == ("one", 0)
    assert rules(card.parameter_rules)["max_tokens"].max == 200
    assert rules(card.parameter_rules)["temperature"].max == 1
    assert rules(card.parameter_rules)["temperature"].min == 0
    assert rules(card.parameter_rules)["own"].label == "own"
    assert card.pricing is not None
    assert (str(card.pricing.input), str(card.pricing.output)) == ("0.1", "0.30")
    assert manifest.model("one", ModelType.TTS) is None
    assert [option.value for option in manifest.model_credential_form[0].options] == ["a", "b"]
    assert manifest.model_credential_form[1].show_on[0].field == "kind"


def test_a_manifest_without_a_position_stands_after_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("position = 1\n", ""))

    assert read_manifest(path).position > max(manifest.position for manifest in read_manifests())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("name", "nmae", "nmae"),
        ('type = "SECRET"', 'type = "SECRET"\nhlep = "x"', "hlep"),
        ('label = "A" }', 'label = "A", shown = 1 }', "shown"),
        ('value = "a" }]', 'value = "a", is = "b" }]', "is"),
        ("[custom_model]", "[custom_model]\nvision = 'x'", "vision"),
        ("max = 1 }", "maxx = 1 }", "maxx"),
        ('output = "0.30"', 'outputs = "0.30"', "outputs"),
        ('input = "0.1"', "input = 0.1", "input"),
        ('input = "0.1"', 'input = "cheap"', "input"),
        ('input = "0.1"', 'input = "-1"', "input"),
        ('output = "0.30"', 'output = "1", currency = "usd"', "currency"),
        ('"LLM"]', '"LMM"]', "LMM"),
        ('type = "SECRET"', 'type = "PASSWORD"', "PASSWORD"),
        ('use = "temperature"', 'use = "heat"', "heat"),
        ('parameters = ["max_tokens", {', 'parameters = ["heat", {', "heat"),
        ('name = "own", ', "", "needs `use`"),
        ('name = "good"', 'name = "Good"', "name"),
        ('name = "good"', 'name = "other"', "not that of the file"),
        ('label = "Good"', 'label = "Good"\naliases = ["a-b"]', "aliases"),
        ('dialect = "', 'dialects = "', "dialect"),
        ('methods = ["PREDEFINED_MODEL", ', "methods = [", "PREDEFINED_MODEL"),
        ('prices_from = "its price list"\n', "", "prices_from"),
        ('name = "one"', 'name = ""', "no name"),
        ('name = "sees"', 'name = "size"', "taken"),
        ('name = "sees"', 'name = "model_type"', "taken"),
        ('field = "kind"', 'field = "sees"', "does not stand before it"),
        ('default = "a"', 'default = "c"', "the default is wrong"),
        ('default = "4096"', 'default = "many"', "the default is wrong"),
        ('type = "SELECT"', 'type = "TEXT"', "options belong to"),
        ('context_window = "size"', 'context_window = "sees"', "NUMBER"),
        ('VISION = "sees"', 'VISION = "size"', "SWITCH"),
        ('VISION = "sees"', 'SIGHT = "sees"', "SIGHT"),
        ("[custom_model]", '[custom_model]\nbase = "kind"', "go together"),
        (
            "[custom_model]",
            '[[base_models]]\nname = "b"\ntype = "LLM"\n\n[custom_model]\nbase = "kind"',
            "are not the names of `base_models`",
        ),
        ('context_window = "size"', 'properties = { key = "nothing" }', "no public field"),
        ('type = "SECRET"', 'type = "SECRET"\ndefault = "sk-1"', "a secret has no default"),
        ('type = "SECRET"', 'type = "URL"', "decides_host"),
        ('[[models]]\nname = "one"\ntype = "LLM"', '[[models]]\nname = "one"\ntype = "TTS"', "model_types"),
        ("max_output_tokens = 200", "max_output_tokens = 0", "max_output_tokens"),
        ('label = "Good"', 'label = "Good', "good.toml"),
    ],
)
def test_a_wrong_manifest_is_refused_by_file_and_key(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))

    with pytest.raises(ManifestError) as raised:
        read_manifest(path)

    assert str(raised.value).startswith("good.toml: ")
    assert named in str(raised.value)


def test_two_models_of_one_name_and_type_are_refused(tmp_path: Path) -> None:
    twice = GOOD + '\n[[models]]\nname = "one"\ntype = "LLM"\n'

    with pytest.raises(ManifestError, match="number 2 has no name of its own"):
        read_manifest(write(tmp_path, twice))


def test_a_provider_that_cannot_be_configured_is_refused(tmp_path: Path) -> None:
    start, end = GOOD.index("[[credential_form]]"), GOOD.index("[[model_credential_form]]")

    with pytest.raises(ManifestError, match="credential_form"):
        read_manifest(write(tmp_path, GOOD[:start] + GOOD[end:]))


def test_a_folder_is_read_by_the_names_of_its_files(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, GOOD.replace('"good"', '"also"'), "also.toml")
    write(tmp_path, "not a manifest", "notes.txt")

    assert [manifest.name for manifest in read_manifests(tmp_path)] == ["also", "good"]


def test_a_custom_model_is_what_its_form_values_say_over_the_defaults(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, GOOD))

    told = custom_card(manifest, "mine", ModelType.LLM, {"size": "8192", "sees": "false"})
    untold = custom_card(manifest, "mine", ModelType.LLM, {})

    assert (told.name, told.label, told.type) == ("mine", "mine", ModelType.LLM)
    assert (told.context_window, told.max_output_tokens) == (8192, 100)
    assert told.features == {ModelFeature.TOOL_CALL}
    assert rules(told.parameter_rules)["max_tokens"].max == 100
    assert untold.features == {ModelFeature.TOOL_CALL, ModelFeature.VISION}
    assert untold.context_window is None


def test_a_custom_model_of_a_type_without_defaults_has_none(tmp_path: Path) -> None:
    manifest = replace(read_manifest(write(tmp_path, GOOD)), defaults={})

    card = custom_card(manifest, "mine", ModelType.LLM, {"sees": "true"})

    assert card.features == {ModelFeature.VISION}
    assert card.parameter_rules == ()


def test_the_form_of_an_openai_compatible_server_describes_its_model() -> None:
    manifest = shipped("openai_compatible")
    values = check_form(
        manifest.model_credential_form,
        {
            "base_url": "HTTP://127.0.0.1:8001/v1/",
            "context_size": "2048",
            "max_output_tokens": "64",
            "supports_tools": "false",
        },
        ModelType.LLM,
        normalise_url=normalise_base_url,
    )

    card = custom_card(manifest, "smol", ModelType.LLM, {name: str(value) for name, value in values.items()})

    assert values["base_url"] == "http://127.0.0.1:8001/v1"
    assert (card.context_window, card.max_output_tokens) == (2048, 64)
    assert card.features == {ModelFeature.STRUCTURED_OUTPUT}
    assert check_parameters(card.parameter_rules, {"max_tokens": 64, "temperature": 0}) == {
        "max_tokens": 64,
        "temperature": 0,
    }


@pytest.mark.parametrize("manifest", CATALOG.manifests(), ids=lambda manifest: manifest.name)
def test_a_shipped_manifest_says_what_a_person_needs(manifest: Manifest) -> None:
    fields = [*manifest.credential_form, *manifest.model_credential_form]

    assert manifest.label
    assert manifest.description.endswith(".")
    assert manifest.icon_url is None or manifest.icon_url.startswith("/")
    assert all(field.label for field in fields)
    assert all(field.help is None or len(field.help) > 10 for field in fields)
    assert all(card.label for card in manifest.models)
    for card in (card for card in manifest.models if card.type is ModelType.LLM):
        assert card.parameter_rules
        assert card.context_window is not None
        assert card.max_output_tokens is not None
        assert card.max_output_tokens <= card.context_window


def test_reasoning_models_of_openai_take_no_temperature() -> None:
    cards = [card for card in shipped("openai").models if card.type is ModelType.LLM]
    reasoning = [card for card in cards if ModelFeature.REASONING in card.features]

    assert len(cards) > 12
    assert len(reasoning) > 8
    for card in reasoning:
        assert set(rules(card.parameter_rules)) == {"max_tokens", "reasoning_effort", "reasoning_summary"}
    for card in cards:
        assert ("temperature" in rules(card.parameter_rules)) is (card not in reasoning)


def test_a_model_that_is_gone_is_deprecated() -> None:
    """Dates of retirement stand in the manifest; whoever changes the date of its facts looks at them."""
    manifest = shipped("openai")
    read_on = "2026-11-21"

    for card in manifest.models:
        retires_on = card.properties.get("retires_on")
        assert card.deprecated is (retires_on is not None and retires_on <= read_on), card.name


def test_echo_needs_no_credential_and_takes_one() -> None:
    manifest = shipped("echo")

    assert manifest.keyless
    assert manifest.methods == {ConfigurationMethod.PREDEFINED_MODEL}
    assert check_form(manifest.credential_form, {}, None, normalise_url=str) == {}
    assert check_form(manifest.credential_form, {"prefix": "You said:"}, None, normalise_url=str) == {
        "prefix": "You said:"
    }


def shipped(name: str) -> Manifest:
    manifest = CATALOG.manifest(name)
    assert manifest is not None
    return manifest
