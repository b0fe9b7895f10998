"""The rules of a model's parameters: what may be asked for, and the templates that manifests use."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from core.errors import InvalidInput
from core.provider import ParameterRule, ParameterType

MAX_TEXT = 65_536
MAX_NUMBER = 2**63
"""Numbers stay below this, whatever a rule allows: no provider's JSON holds more."""

TEMPLATES: Mapping[str, ParameterRule] = {
    "temperature": ParameterRule(
        name="temperature",
        label="Temperature",
        type=ParameterType.FLOAT,
        help="How freely the model chooses: 0 is the most likely word, higher is more varied.",
        min=0,
        max=2,
        precision=2,
    ),
    "top_p": ParameterRule(
        name="top_p",
        label="Top P",
        type=ParameterType.FLOAT,
        help="Chooses among the likeliest words whose probabilities add up to this.",
        min=0,
        max=1,
        precision=2,
    ),
    "top_k": ParameterRule(
        name="top_k",
        label="Top K",
        type=ParameterType.INT,
        help="Chooses among this many likeliest words.",
        min=1,
        max=1000,
    ),
    "presence_penalty": ParameterRule(
        name="presence_penalty",
        label="Presence penalty",
        type=ParameterType.FLOAT,
        help="Above 0, words that have appeared are less likely.",
        min=-2,
        max=2,
        precision=2,
    ),
    "frequency_penalty": ParameterRule(
        name="frequency_penalty",
        label="Frequency penalty",
        type=ParameterType.FLOAT,
        help="Above 0, words are less likely the more often they have appeared.",
        min=-2,
        max=2,
        precision=2,
    ),
    "max_tokens": ParameterRule(
        name="max_tokens",
        label="Maximum tokens",
        type=ParameterType.INT,
        help="The most tokens of the answer, reasoning included.",
        min=1,
    ),
    "seed": ParameterRule(
        name="seed",
        label="Seed",
        type=ParameterType.INT,
        help="The same seed and input give the same answer, as far as the provider can.",
    ),
    "response_format": ParameterRule(
        name="response_format",
        label="Response format",
        type=ParameterType.STRING,
        help="Whether the answer is text or a JSON object.",
        options=("text", "json_object"),
    ),
    "json_schema": ParameterRule(
        name="json_schema",
        label="JSON schema",
        type=ParameterType.TEXT,
        help="The JSON schema of a structured answer, as text.",
    ),
    "reasoning_effort": ParameterRule(
        name="reasoning_effort",
        label="Reasoning effort",
        type=ParameterType.STRING,
        help="How long the model reasons before it answers.",
        options=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    ),
    "reasoning_summary": ParameterRule(
        name="reasoning_summary",
        label="Reasoning summary",
        type=ParameterType.STRING,
        help="Whether the model sums up its reasoning, which OpenAI gives to verified organizations only.",
        options=("auto", "concise", "detailed"),
    ),
}
"""Rules that a manifest takes by name; it may change any of their values."""


def check_parameters(rules: Sequence[ParameterRule], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters to send: those given, 0 and false included, and the defaults of required ones left out.

    None counts as left out. The default of an optional one tells what the provider does by itself; it is not sent.

    Raises:
        InvalidInput: a name, type or value that the rules do not allow; the path names it.
    """
    known = {rule.name: rule for rule in rules}
    result: dict[str, Any] = {}
    for name, value in given.items():
        rule = known.get(name)
        if rule is None:
            names = ", ".join(known) or "none"
            raise InvalidInput(f"This model has no parameter {name!r}; it has: {names}.", path=("parameters", name))
        if value is not None:
            result[name] = _check(rule, value)
    for rule in rules:
        if rule.required and rule.name not in result:
            if rule.default is None:
                raise InvalidInput(f"The parameter {rule.name!r} is required.", path=("parameters", rule.name))
            result[rule.name] = rule.default
    return result


def _check(rule: ParameterRule, value: Any) -> Any:
    match rule.type:
        case ParameterType.FLOAT:
            return _in_range(rule, _number(rule, value))
        case ParameterType.INT:
            return _in_range(rule, _whole(rule, value))
        case ParameterType.BOOLEAN:
            if not isinstance(value, bool):
                raise _wrong(rule, "is true or false")
            return value
    if not isinstance(value, str):
        raise _wrong(rule, "is text")
    if len(value) > MAX_TEXT:
        raise _wrong(rule, f"has at most {MAX_TEXT} characters")
    if rule.options and value not in rule.options:
        raise _wrong(rule, f"is one of: {', '.join(rule.options)}")
    return value


def _number(rule: ParameterRule, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_NUMBER:
        raise _wrong(rule, "is a number")
    if rule.precision is not None and _decimals(value) > rule.precision:
        raise _wrong(rule, f"has at most {rule.precision} decimals" if rule.precision else "is a whole number")
    return value


def _decimals(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _whole(rule: ParameterRule, value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < MAX_NUMBER or value != int(value):
        raise _wrong(rule, "is a whole number")
    return int(value)


def _in_range(rule: ParameterRule, value: float) -> float:
    if (rule.min is not None and value < rule.min) or (rule.max is not None and value > rule.max):
        low = f"at least {_plain(rule.min)}" if rule.min is not None else ""
        high = f"at most {_plain(rule.max)}" if rule.max is not None else ""
        raise _wrong(rule, "is " + " and ".join(part for part in (low, high) if part))
    return value


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


def _wrong(rule: ParameterRule, allowed: str) -> InvalidInput:
    return InvalidInput(f"The parameter {rule.name!r} {allowed}.", path=("parameters", rule.name))
