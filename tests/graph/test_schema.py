"""The schema as a whole."""

from collections.abc import Iterator

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
)

from graph.completion_events import EVENT_STRUCTS, EVENT_TYPES
from graph.schema import SNAPSHOT, schema

SCHEMA = schema._schema


def elements() -> Iterator[tuple[str, str | None]]:
    for name, kind in SCHEMA.type_map.items():
        if name.startswith("__"):
            continue
        yield name, kind.description
        if isinstance(kind, GraphQLEnumType):
            yield from ((f"{name}.{value}", found.description) for value, found in kind.values.items())
        if isinstance(kind, GraphQLInputObjectType):
            yield from ((f"{name}.{field}", given.description) for field, given in kind.fields.items())
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field_name, field in kind.fields.items():
                yield f"{name}.{field_name}", field.description
                yield from ((f"{name}.{field_name}({arg})", given.description) for arg, given in field.args.items())


def test_the_file_in_the_repository_is_what_is_served() -> None:
    assert SNAPSHOT.read_text(encoding="utf-8") == schema.as_str() + "\n"


def test_everything_is_described() -> None:
    assert [name for name, description in elements() if not description] == []


def test_every_object_with_an_id_is_a_node() -> None:
    nodes = {kind.name for kind in SCHEMA.get_implementations(SCHEMA.type_map["Node"]).objects}  # type: ignore[arg-type]
    with_id = {
        name
        for name, kind in SCHEMA.type_map.items()
        if isinstance(kind, GraphQLObjectType) and "id" in kind.fields and str(kind.fields["id"].type) == "ID!"
    }

    told = {f"{name}Change" for name in nodes}  # the id is that of the object that has changed
    assert with_id - told == nodes


def test_every_mutation_takes_an_input_and_answers_with_errors() -> None:
    assert SCHEMA.mutation_type is not None
    for name, field in SCHEMA.mutation_type.fields.items():
        assert list(field.args) == ["input"], name
        payload = field.type.of_type
        assert str(payload.fields["errors"].type) == "[UserError!]!", name
        others = [str(other.type) for key, other in payload.fields.items() if key != "errors"]
        assert others, name
        assert not any(kind.endswith("!") for kind in others), name


def test_every_event_of_core_has_its_type() -> None:
    interface = SCHEMA.type_map["CompletionEvent"]
    served = {kind.name for kind in SCHEMA.get_implementations(interface).objects}  # type: ignore[arg-type]

    assert served == set(EVENT_STRUCTS) == {kind.__name__ for kind in EVENT_TYPES}
    assert all(struct.__name__ == name for name, struct in EVENT_STRUCTS.items())


def test_no_type_can_give_a_secret() -> None:
    fields = {
        f"{name}.{field}"
        for name, kind in SCHEMA.type_map.items()
        if isinstance(kind, GraphQLObjectType) and not name.startswith("__")
        for field in kind.fields
    }

    assert {field for field in fields if "secret" in field.lower()} == {
        "CreateApiTokenPayload.secret",
        "CredentialValue.isSecret",
    }
