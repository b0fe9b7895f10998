"""The served schema keeps what the public contract promises, and every element of it says what it is."""

from collections.abc import Iterator

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_specified_directive,
    is_specified_scalar_type,
)

from core.errors import ErrorCode
from graph.schema import schema
from tests.architecture.contract import SERVED, contract, listed, missing, served


def test_the_snapshot_is_what_is_served() -> None:
    assert SERVED.read_text("utf-8") == schema.as_str() + "\n", "run `python -m graph.schema --write`"


def test_nothing_of_the_contract_is_missing_that_the_list_does_not_admit() -> None:
    unlisted = set(missing(contract(), served())) - set(listed())

    assert not unlisted


def test_the_list_of_what_is_not_served_shrinks() -> None:
    outlived = set(listed()) - set(missing(contract(), served()))

    assert not outlived, "these are served now: run `python -m tests.architecture.contract`"
    assert listed() == sorted(set(listed()))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("type Query { name: String! }", "Query.age"),
        ("type Query { name: String age: Int }", "Query.name"),
        ("type Query { name(short: Boolean!): String! age: Int }", "Query.name"),
        ("type Query { name(first: Int = 2): String! age: Int }", "Query.name"),
    ],
)
def test_the_comparison_sees_a_difference(given: str, named: str) -> None:
    promised = build_schema("type Query { name(first: Int = 1): String! age: Int }")

    found = missing(promised, build_schema(given))

    assert any(named in line for line in found)


def test_an_addition_is_no_difference() -> None:
    promised = build_schema("type Query { name: String }")

    assert (
        missing(promised, build_schema("type Query { name(first: Int): String age: Int } type More { a: Int }")) == []
    )


def test_every_element_is_described() -> None:
    silent = [place for place, description in _elements(served()) if not (description or "").strip()]

    assert not silent


def test_descriptions_are_sentences() -> None:
    odd = [
        (place, description)
        for place, description in _elements(served())
        if description
        and (not description.rstrip().endswith((".", ")", "`", ":")) or description != description.strip())
    ]

    assert not odd


def test_the_codes_of_errors_are_those_of_the_contract() -> None:
    codes = contract().type_map["ErrorCode"]

    assert isinstance(codes, GraphQLEnumType)
    assert set(codes.values) == {code.value for code in ErrorCode}


def _elements(of: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """Yield every element's place and description, but for what GraphQL itself defines."""
    for name, kind in of.type_map.items():
        if is_introspection_type(kind) or is_specified_scalar_type(kind):
            continue
        yield name, kind.description
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field_name, field in kind.fields.items():
                yield f"{name}.{field_name}", field.description
                for argument_name, argument in field.args.items():
                    yield f"{name}.{field_name}({argument_name}:)", argument.description
        elif isinstance(kind, GraphQLInputObjectType):
            for field_name, given in kind.fields.items():
                yield f"{name}.{field_name}", given.description
        elif isinstance(kind, GraphQLEnumType):
            for value_name, value in kind.values.items():
                yield f"{name}.{value_name}", value.description
    for directive in of.directives:
        if not is_specified_directive(directive):
            yield f"@{directive.name}", directive.description
