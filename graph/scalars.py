"""The scalars: how each value is written and read."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NewType

import strawberry
from graphql import GraphQLError, GraphQLScalarType, ValueNode
from strawberry.types.scalar import ScalarDefinition

MAX_SAFE = 2**53 - 1
MAX_DEPTH = 64

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(E[+-]?\d{1,6})?", re.ASCII)

if TYPE_CHECKING:
    BigInt = int
    JSON = Any
    Vector = Sequence[float]
else:
    BigInt = NewType("BigInt", int)
    JSON = NewType("JSON", object)
    Vector = NewType("Vector", list)


def _write_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_time(value: object) -> datetime:
    text = value.upper() if isinstance(value, str) else ""
    try:
        found = datetime.fromisoformat(text) if _TIME.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None:
        raise GraphQLError("A DateTime is text of RFC 3339 with its offset, such as 2026-01-31T12:00:00Z.")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise GraphQLError("A DateTime is of the years 1 to 9999.") from None


def _write_decimal(value: Decimal | str) -> str:
    return format(Decimal(value), "f")


def _read_decimal(value: object) -> Decimal:
    text = str(value).upper() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if len(text) > 40 or not _DECIMAL.fullmatch(text):
        raise GraphQLError('A Decimal is a finite decimal number as text, such as "12.50".')
    found = Decimal(text)
    return found or found.copy_abs()


def _check_whole(value: object) -> int:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(whole, int) or isinstance(whole, bool) or abs(whole) > MAX_SAFE:
        raise GraphQLError("A BigInt is a whole number within ±(2^53 - 1).")
    return whole


def refuse_nul(text: GraphQLScalarType) -> None:
    """Let the scalar String take no NUL: PostgreSQL stores none, and no two engines shall differ."""
    value, literal = text.coerce_input_value, text.coerce_input_literal
    assert literal is not None

    def checked(read: object) -> object:
        if isinstance(read, str) and "\0" in read:
            raise GraphQLError("A String has no NUL character.")
        return read

    text.coerce_input_value = lambda given: checked(value(given))
    text.coerce_input_literal = lambda node: checked(literal(node))


def say_where(scalar: GraphQLScalarType) -> None:
    """Let what is wrong with a literal be told with its place in the document, also where it has digits without end."""

    def told(read: Callable[..., object]) -> Callable[..., object]:
        def reading(node: ValueNode, *variables: object) -> object:
            try:
                return read(node, *variables)
            except GraphQLError as error:
                raise (error if error.nodes else GraphQLError(error.message, node)) from None
            except ValueError:
                raise GraphQLError(f"{scalar.name} cannot represent this value.", node) from None

        return reading

    scalar.parse_literal = told(scalar.parse_literal)  # type: ignore[method-assign]  # each scalar has its own
    if scalar.coerce_input_literal is not None:
        scalar.coerce_input_literal = told(scalar.coerce_input_literal)


def _check_json(value: object) -> object:
    """Refuse what JSON cannot say, and what is nested without end."""
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise GraphQLError(f"A JSON value has at most {MAX_DEPTH} levels.")
        if isinstance(item, float) and not math.isfinite(item):
            raise GraphQLError("JSON has no NaN and no infinity.")
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        waiting += [(one, depth + 1) for one in inner]
    return value


def _same(value: Any) -> Any:
    return value


def _read_vector(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(one, int | float) and math.isfinite(one) for one in value):
        raise GraphQLError("A Vector is a list of finite numbers.")
    return value


SCALARS: Mapping[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="A point in time: RFC 3339, in UTC.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_write_time,
        parse_value=_read_time,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description="An exact decimal number, as text without an exponent.",
        specified_by_url="https://speleotrove.com/decimal/daconvs.html",
        serialize=_write_decimal,
        parse_value=_read_decimal,
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number within ±(2^53 - 1), as a JSON number.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc7493#section-2.2",
        serialize=_check_whole,
        parse_value=_check_whole,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value, as it is.",
        specified_by_url="https://ecma-international.org/wp-content/uploads/ECMA-404_2nd_edition_december_2017.pdf",
        serialize=_same,
        parse_value=_check_json,
    ),
    Vector: strawberry.scalar(
        name="Vector",
        description="A list of finite numbers, as a JSON array.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259#section-5",
        serialize=_same,
        parse_value=_read_vector,
    ),
}
"""Which scalar a Python type is."""
