"""Inputs are made here as Strawberry makes them."""

from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    Undefined,
    coerce_input_value,
    is_required_input_field,
)
from strawberry.types.arguments import convert_argument
from strawberry.types.base import get_object_definition

from graph.schema import schema

KINDS = sorted(name for name, kind in schema._schema.type_map.items() if isinstance(kind, GraphQLInputObjectType))
LEAVES = {
    "String": "text",
    "ID": "id",
    "Int": 7,
    "Float": 0.5,
    "Boolean": False,
    "BigInt": 123456789012,
    "Decimal": "1.25",
    "DateTime": "2026-01-02T03:04:05Z",
    "JSON": {"a": [1, None]},
}


def values(kind: Any, *, is_full: bool, depth: int = 4) -> Any:
    """Return a value of a type: with all its fields and two of each list, or with none that can be left out."""
    if isinstance(kind, GraphQLNonNull):
        return values(kind.of_type, is_full=is_full, depth=depth)
    if isinstance(kind, GraphQLList):
        one = values(kind.of_type, is_full=is_full, depth=depth - 1)
        return [one, one] if is_full and depth > 0 else []
    if isinstance(kind, GraphQLEnumType):
        return list(kind.values)[-1]
    if not isinstance(kind, GraphQLInputObjectType):
        return LEAVES[kind.name]
    fields = {
        name: field
        for name, field in kind.fields.items()
        if is_required_input_field(field) or (is_full and depth > 0) or is_one_of(kind)
    }
    if is_one_of(kind):
        fields = dict(list(fields.items())[:1])
    return {name: values(field.type, is_full=is_full, depth=depth - 1) for name, field in fields.items()}


def is_one_of(kind: GraphQLInputObjectType) -> bool:
    """Tell whether exactly one field of an input is given."""
    return bool(kind.extensions["strawberry-definition"].is_one_of)


def nulled(kind: GraphQLInputObjectType, value: dict[str, Any]) -> dict[str, Any]:
    """Return the value with null wherever a field may have it."""
    return {
        name: one if isinstance(kind.fields[name].type, GraphQLNonNull) or is_one_of(kind) else None
        for name, one in value.items()
    }


@pytest.fixture
def strawberrys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Strawberry make inputs by itself."""
    for name in KINDS:
        definition = get_object_definition(_class_of(name), strict=True)
        monkeypatch.setattr(definition, "from_input", None)


def _class_of(name: str) -> type:
    definition = schema._schema.type_map[name].extensions["strawberry-definition"]
    origin: type = definition.origin
    return origin


def _made(name: str) -> list[Any]:
    kind = schema._schema.type_map[name]
    assert isinstance(kind, GraphQLInputObjectType)
    full = values(kind, is_full=True)
    given = [full, values(kind, is_full=False), nulled(kind, full)]
    read = [coerce_input_value(value, kind) for value in given]
    assert Undefined not in read, (name, given)
    registry = schema.schema_converter.scalar_registry
    return [convert_argument(one, _class_of(name), registry, schema.config) for one in read]


_OURS = {name: _made(name) for name in KINDS}


@pytest.mark.usefixtures("strawberrys")
@pytest.mark.parametrize("name", KINDS)
def test_an_input_is_what_strawberry_makes_of_it(name: str) -> None:
    assert _OURS[name] == _made(name)
