"""The conventions that every part of the served schema keeps, so that a client learns them once."""

import re

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_introspection_type,
)

from core.errors import ErrorCode, ModelyardError
from core.errors import __doc__ as drawn_tree
from tests.architecture.contract import served

SCHEMA = served()
OBJECTS = [
    kind for kind in SCHEMA.type_map.values() if isinstance(kind, GraphQLObjectType) and not is_introspection_type(kind)
]
ROOTS = {"Query", "Mutation", "Subscription"}
PAGE = {"first", "after", "last", "before"}


def test_every_object_with_an_id_can_be_fetched_again() -> None:
    told = {f"{kind.name}Change" for kind in OBJECTS}
    with_id = [kind for kind in OBJECTS if "id" in kind.fields and str(kind.fields["id"].type) == "ID!"]
    with_id = [kind for kind in with_id if kind.name not in told]  # the id is that of the object that has changed

    assert len(with_id) >= 8
    assert [kind.name for kind in with_id if "Node" not in {one.name for one in kind.interfaces}] == []


def test_a_mutation_takes_one_input_and_returns_what_it_changed_with_errors() -> None:
    assert SCHEMA.mutation_type is not None
    odd = []
    for name, field in SCHEMA.mutation_type.fields.items():
        payload = get_named_type(field.type)
        assert isinstance(payload, GraphQLObjectType)
        takes_input = list(field.args) == ["input"] and isinstance(field.args["input"].type, GraphQLNonNull)
        errors = payload.fields.get("errors")
        others = [given for key, given in payload.fields.items() if key != "errors"]
        is_list_or_null = all(not isinstance(one.type, GraphQLNonNull) or "[" in str(one.type) for one in others)
        if not (takes_input and errors and str(errors.type) == "[UserError!]!" and is_list_or_null):
            odd.append(name)

    assert odd == []


def test_a_connection_is_a_connection() -> None:
    connections = [kind for kind in OBJECTS if kind.name.endswith("Connection")]

    assert len(connections) > 5
    for kind in connections:
        edge = get_named_type(kind.fields["edges"].type)
        assert set(kind.fields) == {"edges", "nodes", "pageInfo", "totalCount"}, kind.name
        assert str(kind.fields["pageInfo"].type) == "PageInfo!"
        assert isinstance(edge, GraphQLObjectType)
        assert set(edge.fields) == {"cursor", "node"}
        assert get_named_type(edge.fields["node"].type) is get_named_type(kind.fields["nodes"].type)


def test_whatever_gives_a_connection_takes_a_page() -> None:
    odd = [
        f"{kind.name}.{name}"
        for kind in OBJECTS
        for name, field in kind.fields.items()
        if get_named_type(field.type).name.endswith("Connection") is not (set(field.args) >= PAGE)
    ]

    assert odd == []


def test_names_are_written_as_graphql_writes_them() -> None:
    odd = [name for name in SCHEMA.type_map if not re.fullmatch(r"(__)?[A-Z][A-Za-z0-9]*", name)]
    for kind in SCHEMA.type_map.values():
        if is_introspection_type(kind):
            continue
        if isinstance(kind, GraphQLEnumType):
            odd += [f"{kind.name}.{value}" for value in kind.values if not re.fullmatch(r"[A-Z][A-Z0-9_]*", value)]
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            odd += [f"{kind.name}.{name}" for name in kind.fields if not re.fullmatch(r"[a-z][A-Za-z0-9]*", name)]

    assert odd == []


def test_no_output_holds_a_secret_but_that_of_a_new_token() -> None:
    named = re.compile(r"secret|apikey|password|sealed|ciphertext", re.IGNORECASE)
    showing = {
        f"{kind.name}.{name}"
        for kind in OBJECTS
        for name, field in kind.fields.items()
        if named.search(name) and get_named_type(field.type).name not in {"Boolean", "Int"}
    }

    assert showing == {"CreateApiTokenPayload.secret"}


def test_every_error_has_a_code_of_its_own_and_stands_in_the_tree() -> None:
    named = [error for error in _below(ModelyardError) if "code" in vars(error)]

    assert sorted(error.code for error in named) == sorted(ErrorCode)
    assert [error.__name__ for error in _below(ModelyardError) if error.__name__ not in (drawn_tree or "")] == []


def _below(error: type[ModelyardError]) -> list[type[ModelyardError]]:
    found = [one for one in error.__subclasses__() if one.__module__ == ModelyardError.__module__]
    return [*found, *(lower for one in found for lower in _below(one))]
