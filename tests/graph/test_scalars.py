"""What each scalar writes and reads."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from graphql import GraphQLError, GraphQLScalarType, StringValueNode

from graph.schema import schema


def scalar(name: str) -> Any:
    found = schema._schema.type_map[name]
    assert isinstance(found, GraphQLScalarType)
    return found


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.25+02:00", datetime(2026, 1, 2, 1, 4, 5, 250000, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_with_its_offset(text: str, time: datetime) -> None:
    assert scalar("DateTime").parse_value(text) == time


@pytest.mark.parametrize(
    "value", ["2026-01-02T03:04:05", "2026-13-02T03:04:05Z", "now", "", 5, None, True, "0001-01-01T00:00:00+23:00"]
)
def test_a_time_without_an_offset_or_of_no_year_is_refused(value: object) -> None:
    with pytest.raises(GraphQLError):
        scalar("DateTime").parse_value(value)


def test_a_time_is_written_in_utc() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))

    assert scalar("DateTime").serialize(time) == "2026-01-02T01:04:05Z"


@pytest.mark.parametrize(
    ("value", "text"), [(Decimal("0.00000150"), "0.00000150"), (Decimal("1E+3"), "1000"), ("0.1", "0.1")]
)
def test_a_decimal_is_written_exactly_and_without_exponent(value: Decimal | str, text: str) -> None:
    assert scalar("Decimal").serialize(value) == text


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1,5", "", 1.5, True, None, "9" * 50, []])
def test_what_is_no_decimal_is_refused(value: object) -> None:
    with pytest.raises(GraphQLError):
        scalar("Decimal").parse_value(value)


@pytest.mark.parametrize("value", [0, 2**31, -(2**53) + 1, 2**53 - 1])
def test_a_big_int_goes_beyond_32_bits(value: int) -> None:
    assert scalar("BigInt").parse_value(value) == value
    assert scalar("BigInt").serialize(value) == value


@pytest.mark.parametrize("value", [2**53, -(2**53), 1.5, "1", True, None])
def test_what_is_no_safe_whole_number_is_refused(value: object) -> None:
    with pytest.raises(GraphQLError):
        scalar("BigInt").parse_value(value)


def test_a_string_has_no_nul() -> None:
    assert scalar("String").coerce_input_value("a\u0001b") == "a\u0001b"
    with pytest.raises(GraphQLError):
        scalar("String").coerce_input_value("a\0b")
    with pytest.raises(GraphQLError):
        scalar("String").coerce_input_literal(StringValueNode(value="a\0b"))


def test_json_is_any_value_but_what_json_cannot_say() -> None:
    nested: Any = 1
    for _ in range(200):
        nested = [nested]

    assert scalar("JSON").parse_value({"a": [1, None, "x", 1.5, True]}) == {"a": [1, None, "x", 1.5, True]}
    for wrong in (float("nan"), {"a": [float("inf")]}, nested):
        with pytest.raises(GraphQLError):
            scalar("JSON").parse_value(wrong)
