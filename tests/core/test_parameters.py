"""The rules of a model's parameters."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidInput
from core.parameters import TEMPLATES, check_parameters
from core.provider import ParameterRule, ParameterType

RULES = (
    TEMPLATES["temperature"],
    TEMPLATES["seed"],
    ParameterRule(name="max_tokens", label="Maximum", type=ParameterType.INT, min=1, max=1_047_576, default=16),
    ParameterRule(name="stream", label="Stream", type=ParameterType.BOOLEAN, default=True),
    TEMPLATES["response_format"],
    TEMPLATES["json_schema"],
)


def outcome(values: dict[str, Any]) -> tuple[dict[str, Any], InvalidInput | None]:
    try:
        return check_parameters(tuple(TEMPLATES.values()), values), None
    except InvalidInput as refusal:
        return {}, refusal


@pytest.mark.parametrize(
    ("given_values", "sent"),
    [
        ({}, {}),
        ({"temperature": 0, "stream": False, "seed": 0}, {"temperature": 0, "stream": False, "seed": 0}),
        ({"temperature": 0.25}, {"temperature": 0.25}),
        ({"temperature": 2}, {"temperature": 2}),
        ({"max_tokens": 64.0}, {"max_tokens": 64}),
        ({"temperature": None}, {}),
        ({"response_format": "json_object"}, {"response_format": "json_object"}),
        ({"json_schema": "{}"}, {"json_schema": "{}"}),
        ({"seed": -(2**53)}, {"seed": -(2**53)}),
    ],
)
def test_what_is_given_is_sent_and_defaults_are_not(given_values: dict[str, Any], sent: dict[str, Any]) -> None:
    assert check_parameters(RULES, given_values) == sent


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temprature", 1, "it has: temperature, seed, max_tokens, stream, response_format, json_schema"),
        ("temperature", 2.1, "is at least 0 and at most 2"),
        ("temperature", -0.1, "is at least 0 and at most 2"),
        ("temperature", 0.333, "has at most 2 decimals"),
        ("temperature", 1e-7, "has at most 2 decimals"),
        ("temperature", True, "is a number"),
        ("temperature", "1", "is a number"),
        ("temperature", float("nan"), "is a number"),
        ("temperature", float("inf"), "is a number"),
        ("temperature", 10**400, "is a number"),
        ("temperature", [1], "is a number"),
        ("max_tokens", 1.5, "is a whole number"),
        ("max_tokens", False, "is a whole number"),
        ("max_tokens", float("inf"), "is a whole number"),
        ("max_tokens", 0, "is at least 1 and at most 1047576"),
        ("max_tokens", 1_047_577, "is at least 1 and at most 1047576"),
        ("seed", 10**400, "is a whole number"),
        ("seed", 2**63, "is a whole number"),
        ("stream", 0, "is true or false"),
        ("stream", "false", "is true or false"),
        ("response_format", "xml", "is one of: text, json_object"),
        ("response_format", {"type": "text"}, "is text"),
        ("json_schema", {}, "is text"),
        ("json_schema", "x" * 65_537, "has at most 65536 characters"),
    ],
)
def test_what_the_rules_do_not_allow_is_named_with_what_they_do(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_parameters(RULES, {name: value})

    assert allowed in raised.value.message
    assert repr(name) in raised.value.message
    assert raised.value.path == ("parameters", name)


def test_a_required_parameter_takes_its_default_or_is_asked_for() -> None:
    voice = ParameterRule(name="voice", label="Voice", type=ParameterType.STRING, required=True)
    size = ParameterRule(name="size", label="Size", type=ParameterType.INT, required=True, default=0)

    with pytest.raises(InvalidInput, match="'voice' is required") as raised:
        check_parameters((voice, size), {"voice": None})

    assert raised.value.path == ("parameters", "voice")
    assert check_parameters((size,), {}) == {"size": 0}


def test_a_model_without_rules_takes_no_parameters() -> None:
    with pytest.raises(InvalidInput, match="it has: none"):
        check_parameters((), {"temperature": 1})


@given(
    st.dictionaries(
        st.sampled_from([*TEMPLATES, "other"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=3),
    )
)
def test_any_values_are_either_fit_to_send_or_refused_by_name(values: dict[str, Any]) -> None:
    sent, refusal = outcome(values)

    if refusal is not None:
        assert refusal.path[0] == "parameters"
        assert refusal.path[1] in values
        return
    assert sent == {name: value for name, value in values.items() if value is not None}
    assert {type(value) for value in sent.values()} <= {int, float, str}
    msgspec.json.encode(sent.get("seed"))


def test_the_templates_are_named_as_providers_name_them() -> None:
    assert all(name == rule.name and rule.help for name, rule in TEMPLATES.items())
