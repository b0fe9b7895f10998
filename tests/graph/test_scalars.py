"""What each scalar writes and reads."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from graphql import GraphQLError, GraphQLScalarType, StringValueNode, parse_value

from graph.documents import Documents, Refused
from graph.schema import schema


def scalar(name: str) -> Any:
    found = schema._schema.type_map[name]
    assert isinstance(found, GraphQLScalarType)
    return found


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02t03:04:05z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2026-01-02T03:04:05.25+02:00", datetime(2026, 1, 2, 1, 4, 5, 250000, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_with_its_offset(text: str, time: datetime) -> None:
    assert scalar("DateTime").parse_value(text) == time


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02T03:04:05",
        "2026-13-02T03:04:05Z",
        "2026-W01-1T03:04:05Z",
        "20260102T030405Z",
        "2026-01-02T03:04Z",
        "now",
        "",
        5,
        None,
        True,
        "0001-01-01T00:00:00+23:00",
    ],
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


@pytest.mark.parametrize("value", ["1", "+1.50", "-0.5", ".5", "5.", "1e3", "1E-10", 7])
def test_a_decimal_is_read_exactly(value: str | int) -> None:
    assert scalar("Decimal").parse_value(value) == Decimal(value)


def test_there_is_one_zero() -> None:
    assert str(scalar("Decimal").parse_value("-0.00")) == "0.00"


@pytest.mark.parametrize("literal", ["1" * 5000, "-" + "9" * 5000])
def test_digits_without_end_are_of_the_clients_making(literal: str) -> None:
    with pytest.raises(Refused) as refused:
        Documents(schema._schema).prepare(f"{{ workspaces(first: {literal}) {{ totalCount }} }}", None)

    (error,) = refused.value.errors
    assert error.original_error is None
    assert error.locations


@pytest.mark.parametrize(
    ("scalar_name", "literal"),
    [("DateTime", '"now"'), ("Decimal", '"1,5"'), ("BigInt", "1" * 5000), ("JSON", "{a: " + "1" * 5000 + "}")],
)
def test_what_is_wrong_with_a_literal_is_told_with_its_place(scalar_name: str, literal: str) -> None:
    node = parse_value(literal)

    with pytest.raises(GraphQLError) as refused:
        scalar(scalar_name).parse_literal(node)

    assert refused.value.nodes == [node]


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "1,5", "1_000", " 12", "١٢", "1e9999999", "", 1.5, True, None, "9" * 50, []]
)
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
