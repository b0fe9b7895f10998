"""Everything that the schema serves, for everybody who may ask; and ids of foreign workspaces wherever an id goes.

Made by walking the schema: what is new there and not in the tables of `matrix.py` fails here, saying what to add.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)
from sqlalchemy import select

from core.access import OPERATOR_PERMISSIONS, ROLE_PERMISSIONS, Permission, Role
from core.entities import Workspace
from core.ids import uuid7
from graph import ids
from graph.audit import id_of
from graph.documents import Refused
from graph.execution import refusal
from graph.permissions import OPEN, TYPE_PERMISSIONS
from graph.schema import schema
from storage.audit import audit_entries
from storage.base import metadata
from storage.resources import open_app
from storage.transaction import SqlStorage
from tests.conftest import settings_for
from tests.graph import matrix
from tests.graph.matrix import Operation, Place
from tests.graph.world import PRINCIPALS, World, codes, make_world
from tests.waiting import LIMIT_S

TYPES = schema._schema.type_map
OBJECTS = {
    name: kind for name, kind in TYPES.items() if isinstance(kind, GraphQLObjectType) and not name.startswith("__")
}
QUERIES, MUTATIONS, SUBSCRIPTIONS = (OBJECTS.pop(name).fields for name in ("Query", "Mutation", "Subscription"))
NODES = sorted(name for name, kind in OBJECTS.items() if "Node" in {one.name for one in kind.interfaces})
VOLATILE = {"last_used_at"}
"""Columns that are written beside what is asked for."""


def of_operations() -> set[str]:
    """Return the types that only operations give: payloads, and what subscriptions stream."""
    given = [TYPES[get_named_type(field.type).name] for field in (*MUTATIONS.values(), *SUBSCRIPTIONS.values())]
    return {
        one.name
        for kind in given
        for one in (schema._schema.get_possible_types(kind) if is_abstract_type(kind) else (kind,))
    }


def fields_to_state() -> list[str]:
    """Return every field whose permission the tables have to state: what gives objects, and what is guarded."""
    skipped = of_operations() | matrix.OF_NOBODY_ELSE
    return [
        f"{type_name}.{name}"
        for type_name, kind in OBJECTS.items()
        if type_name not in skipped and not type_name.endswith(("Connection", "Edge"))
        for name, field in kind.fields.items()
        if field.extensions.get("guarded") or (is_composite_type(get_named_type(field.type)) and type_name not in OPEN)
    ]


# ---- how things are asked for


def _node(selection: str) -> str:
    return f"query ($id: ID!) {{ node(id: $id) {{ {selection} }} }}"


def _operation(kind: str, name: str, field: GraphQLField) -> str:
    """Return an operation that gives every argument as a variable and selects what there is of plain values."""
    declared = ", ".join(f"${argument}: {one.type}" for argument, one in field.args.items())
    given = ", ".join(f"{argument}: ${argument}" for argument in field.args)
    arguments = (f"({declared})", f"({given})") if field.args else ("", "")
    return f"{kind} {arguments[0]} {{ {name}{arguments[1]} {_leaves(field)} }}"


def _leaves(field: GraphQLField) -> str:
    """Return a selection of the plain values of what a field gives, and of its errors."""
    kind = get_named_type(field.type)
    if is_leaf_type(kind):
        return ""
    selected = ["__typename"]
    if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
        for name, one in kind.fields.items():
            named = get_named_type(one.type)
            if name in _VARYING or one.extensions.get("guarded") or any(map(is_required_argument, one.args.values())):
                continue
            if is_leaf_type(named):
                selected.append(name)
            elif named.name == "UserError":
                selected.append(f"{name} {{ code message path }}")
    else:
        kind = schema._schema.type_map[kind.name]
    selected += [
        f"... on {one.name} {{ error {{ code message path }} }}"
        for one in (schema._schema.get_possible_types(kind) if is_abstract_type(kind) else ())
        if "error" in one.fields
        and get_named_type(one.fields["error"].type).name == "UserError"
        and kind.name != "Node"
    ]
    return f"{{ {' '.join(selected)} }}"


_VARYING = {"invocationId"}
"""Values that differ from one time to the next."""


def _inner(field: GraphQLField) -> str:
    kind = get_named_type(field.type)
    if is_leaf_type(kind):
        return ""
    return "{ nodes { __typename } }" if kind.name.endswith("Connection") else "{ __typename }"


def _code_of(answer: Any, name: str) -> str:
    """Return the code that an operation failed with, '' for success."""
    top = {code for _, code in codes(answer)}
    given = (answer.get("data") or {}).get(name)
    inside = []
    if isinstance(given, dict):
        inside = [error["code"] for error in given.get("errors") or ()]
        inside += [given["error"]["code"]] if given.get("error") else []
    return "/".join(sorted(top | set(inside)))


# ---- the tables are whole


def test_the_tables_say_of_every_permission_who_holds_it() -> None:
    roles = {
        "owner": Role.OWNER,
        "admin": Role.ADMIN,
        "editor": Role.EDITOR,
        "member": Role.MEMBER,
        "service": Role.MEMBER,
    }

    for permission in Permission:
        held = {who for who, role in roles.items() if permission in ROLE_PERMISSIONS[role]}
        held |= {"operator"} if permission in OPERATOR_PERMISSIONS else set()
        assert matrix.HOLDERS[permission] == held, permission


@pytest.mark.parametrize("type_name", NODES)
def test_every_type_with_an_id_has_a_permission_and_a_sample(type_name: str) -> None:
    assert type_name in matrix.TYPES, f"tests/graph/matrix.py: say in TYPES what it takes to be given a {type_name}"
    assert type_name in matrix.SAMPLES, f"tests/graph/matrix.py: make a sample of {type_name} in SAMPLES"


@pytest.mark.parametrize("name", fields_to_state())
def test_every_field_that_gives_objects_has_a_permission(name: str) -> None:
    type_name, field_name = name.split(".")
    required = [one for one, given in OBJECTS[type_name].fields[field_name].args.items() if is_required_argument(given)]

    assert name in matrix.FIELDS, f"tests/graph/matrix.py: say in FIELDS what it takes to read {name}"
    reached = type_name in matrix.TYPES or type_name in matrix.WAYS
    assert reached, f"tests/graph/matrix.py: say in WAYS how a {type_name} is reached"
    assert not required or name in matrix.ARGUMENTS, f"tests/graph/matrix.py: give {name} its {required} in ARGUMENTS"


@pytest.mark.parametrize(
    ("root", "table", "known"),
    [
        (QUERIES, "QUERIES", matrix.QUERIES),
        (MUTATIONS, "MUTATIONS", matrix.MUTATIONS),
        (SUBSCRIPTIONS, "SUBSCRIPTIONS", matrix.SUBSCRIPTIONS),
    ],
)
def test_every_operation_has_a_sample_and_a_permission(
    root: Mapping[str, GraphQLField], table: str, known: Mapping[str, Operation]
) -> None:
    missing = sorted(set(root) - set(known))
    assert missing == [], f"tests/graph/matrix.py: give {missing} an input and say who may, in {table}"
    assert set(known) - set(root) == set(), f"tests/graph/matrix.py: {table} names what the schema has not"


def test_the_tables_name_nothing_that_is_not_there() -> None:
    for name in (*matrix.FIELDS, *matrix.ARGUMENTS):
        type_name, field_name = name.split(".")
        assert field_name in OBJECTS[type_name].fields, name
    assert set(matrix.TYPES) == set(NODES)
    assert set(matrix.WAYS) <= set(OBJECTS)
    assert set(TYPE_PERMISSIONS) <= set(matrix.TYPES) | set(matrix.WAYS)


# ---- worlds with a sample of everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A closed world in a file, to make others of."""

    path: Path
    world: World
    places: Mapping[str, Place]
    redis_url: str


@pytest.fixture(scope="session")
async def sampled(sqlite_template: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Sampled:
    """Return a world with samples in both of its workspaces."""
    folder = tmp_path_factory.mktemp("sampled")
    path = folder / "modelyard.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with open_app(_settings(path, redis_url)) as app:
        world = await make_world(app)
        places = await matrix.make_places(world)
    return Sampled(path=path, world=world, places=places, redis_url=redis_url)


@pytest.fixture(scope="session")
async def still(sampled: Sampled, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Return a world that nothing in these tests may change."""
    async with _copy(sampled, tmp_path_factory.mktemp("still")) as world:
        yield world


@asynccontextmanager
async def _copy(sampled: Sampled, folder: Path) -> AsyncIterator[World]:
    path = folder / "modelyard.db"
    shutil.copyfile(sampled.path, path)
    async with open_app(_settings(path, sampled.redis_url)) as app:
        yield replace(sampled.world, app=app)


def _settings(path: Path, redis_url: str) -> Any:
    products = path.parent / "products.toml"
    products.write_text(matrix.PRODUCTS)
    return settings_for(
        f"sqlite+aiosqlite:///{path}", redis_url, path.parent, EGRESS_ALLOW="127.0.0.1:9", PRODUCTS=str(products)
    )


async def rows(world: World) -> dict[str, list[Any]]:
    """Return everything that the world remembers."""
    storage = world.app.storage
    assert isinstance(storage, SqlStorage)
    async with storage.connect() as connection:
        return {
            table.name: sorted(
                map(repr, await connection.rows(select(*[c for c in table.c if c.name not in VOLATILE])))
            )
            for table in metadata.tables.values()
            if table.name != "processes"
        }


# ---- reading


@pytest.mark.parametrize("type_name", NODES)
async def test_an_object_is_given_to_those_who_may_see_it(still: World, sampled: Sampled, type_name: str) -> None:
    for principal in PRINCIPALS:
        answer = await still.ask(principal, _node("__typename"), id=sampled.places["home"][type_name])

        _check_answer(principal, answer, type_name, matrix.HOLDERS[matrix.TYPES[type_name]])


@pytest.mark.parametrize("name", matrix.FIELDS)
async def test_a_field_serves_those_who_may_read_it(still: World, sampled: Sampled, name: str) -> None:
    type_name, field_name = name.split(".")
    field, home = OBJECTS[type_name].fields[field_name], sampled.places["home"]
    selected = f"{field_name}{matrix.ARGUMENTS.get(name, '')} {_inner(field)}"
    if type_name in matrix.WAYS:
        permission, way = matrix.WAYS[type_name]
        query, given = f"query ($workspace: ID!) {{ {way % selected} }}", {"workspace": home["Workspace"]}
        if "$workspace" not in way:
            query, given = f"{{ {way % selected} }}", {}
    else:
        permission, query = matrix.TYPES[type_name], _node(f"... on {type_name} {{ {selected} }}")
        given = {"id": home[type_name]}
    allowed = matrix.HOLDERS[matrix.FIELDS[name]] & (matrix.HOLDERS[permission] if permission else set(PRINCIPALS))

    for principal in PRINCIPALS:
        _check_answer(principal, await still.ask(principal, query, **given), type_name, allowed)


@pytest.mark.parametrize("name", matrix.QUERIES)
async def test_a_query_serves_those_who_may_ask_it(still: World, sampled: Sampled, name: str) -> None:
    operation = matrix.QUERIES[name]
    query = _operation("query", name, QUERIES[name])

    for principal in PRINCIPALS:
        answer = await still.ask(principal, query, **operation.given(sampled.places["home"]))

        assert _code_of(answer, name) == operation.expected(principal), (principal, answer)


def _check_answer(principal: str, answer: Any, type_name: str, allowed: set[str]) -> None:
    found = {code for _, code in codes(answer)}
    if principal in allowed:
        assert found == set(), (principal, answer)
        assert None not in answer["data"].values(), (principal, answer)
    elif principal == "anonymous":
        assert found == {"UNAUTHENTICATED"}, answer
    elif (principal == "stranger" and "node" in answer["data"]) or (type_name, principal) in matrix.UNSEEN:
        assert answer == {"data": {"node": None}}, (principal, answer)
    else:
        assert found == {"FORBIDDEN"}, (principal, answer)


# ---- changing


@pytest.mark.parametrize("name", matrix.MUTATIONS)
async def test_a_mutation_is_refused_to_those_who_may_not_and_changes_nothing(
    still: World, sampled: Sampled, name: str
) -> None:
    operation = matrix.MUTATIONS[name]
    query, given = _operation("mutation", name, MUTATIONS[name]), operation.given(sampled.places["home"])
    before = await rows(still)

    for principal in PRINCIPALS:
        if operation.expected(principal):
            answer = await still.ask(principal, query, input=given)
            assert _code_of(answer, name) == operation.expected(principal), (principal, answer)
            payload = (answer["data"] or {}).get(name) or {}
            assert all(payload[key] is None for key in payload if key not in {"errors", "__typename"}), payload

    assert await rows(still) == before


@pytest.mark.parametrize("name", matrix.MUTATIONS)
async def test_a_mutation_serves_those_who_may(sampled: Sampled, tmp_path: Path, name: str) -> None:
    operation = matrix.MUTATIONS[name]
    query, given = _operation("mutation", name, MUTATIONS[name]), operation.given(sampled.places["home"])

    for principal in PRINCIPALS:
        if not operation.expected(principal):
            folder = tmp_path / principal
            folder.mkdir()
            async with _copy(sampled, folder) as world:
                if name == "endCooldown":
                    await matrix.let_rest(world, sampled.places["home"])
                before = await told(world)
                answer = await world.ask(principal, query, input=given)
                new = [entry for entry in await told(world) if entry.id not in {one.id for one in before}]
            assert _code_of(answer, name) == "", (principal, answer)
            assert "errors" not in answer, (principal, answer)
            assert bool(new) is (name not in matrix.CALLS), f"{name} tells the audit log {new}"
            assert {entry.token_id for entry in new} <= {world.tokens[principal]}
            for entry in new:
                subject = entry.subject
                told_id = id_of(world.home.id, subject)
                sample = sampled.places["home"][subject.partition(":")[0]]
                assert told_id, f"graph/audit.py makes no id of {subject!r}, which {name} tells"
                assert _form(told_id) == _form(sample), f"graph/audit.py: say in _IDS how {subject!r} becomes an id"
                is_told = entry.changes is not None or name in matrix.OF_STATE
                assert is_told, f"{name} does not tell what it was before: see core/audit.py"


def _form(id_: str) -> tuple[str, list[bool]]:
    decoded = ids.decode(id_)
    assert decoded is not None
    return decoded[0], [ids.uuid_of(part) is not None for part in decoded[1]]


async def told(world: World) -> list[Any]:
    """Return the rows of the audit log."""
    storage = world.app.storage
    assert isinstance(storage, SqlStorage)
    async with storage.connect() as connection:
        return list(await connection.rows(select(audit_entries)))


@pytest.mark.parametrize("name", matrix.SUBSCRIPTIONS)
async def test_a_subscription_serves_those_who_may_follow(sampled: Sampled, tmp_path: Path, name: str) -> None:
    operation = matrix.SUBSCRIPTIONS[name]
    query, given = _operation("subscription", name, SUBSCRIPTIONS[name]), operation.given(sampled.places["home"])

    async with _copy(sampled, tmp_path) as world:
        for principal in PRINCIPALS:
            answer = await first_of(world, principal, query, **given)
            assert _code_of(answer, name) == operation.expected(principal), (principal, answer)


async def first_of(world: World, principal: str, query: str, **variables: Any) -> Any:
    """Return the first payload of a subscription, or why there is none."""
    try:
        async with asyncio.timeout(LIMIT_S), aclosing(world.events(principal, query, **variables)) as events:
            return await anext(events)
    except Refused as refused:
        return msgspec.json.decode(refusal(refused))


# ---- ids of foreign workspaces

Path_ = tuple[str | int, ...]
Places = Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taker:
    """A place in an operation where an id goes: `put` gives the variables that hold this id there."""

    kind: str
    query: str
    put: Callable[[Place, str], dict[str, Any]]


def takers() -> Iterator[tuple[str, Taker]]:
    """Find every argument and input field of the schema that takes an id."""
    for kind, root, table in (
        ("query", QUERIES, matrix.QUERIES),
        ("mutation", MUTATIONS, matrix.MUTATIONS),
        ("subscription", SUBSCRIPTIONS, matrix.SUBSCRIPTIONS),
    ):
        for name in sorted(set(root) & set(table)):
            yield from _takers_of(kind, name, root[name], table[name])
    for type_name in matrix.TYPES:
        for name, field in OBJECTS[type_name].fields.items():
            yield from _takers_on(type_name, name, field)


def _takers_of(kind: str, name: str, field: GraphQLField, operation: Operation) -> Iterator[tuple[str, Taker]]:
    for path in _id_paths(field.args, _variables(kind, operation, _NOWHERE)):

        def put(place: Place, id_: str, path: Path_ = path) -> dict[str, Any]:
            return _with(_variables(kind, operation, place), field.args, path, id_)

        yield f"{name}:{_said(path)}", Taker(kind=kind, query=_operation(kind, name, field), put=put)


def _takers_on(type_name: str, name: str, field: GraphQLField) -> Iterator[tuple[str, Taker]]:
    fixed = matrix.ARGUMENTS.get(f"{type_name}.{name}", "")[1:-1]
    for path in _id_paths(field.args, {}):
        argument = str(path[0])
        given = f"({fixed} {argument}: $given)"
        selected = f"... on {type_name} {{ {name}{given} {_leaves(field)} }}"
        query = f"query ($id: ID!, $given: {field.args[argument].type}) {{ node(id: $id) {{ {selected} }} }}"

        def put(place: Place, id_: str, path: Path_ = path) -> dict[str, Any]:
            return {"id": place[type_name], "given": _with({}, field.args, path, id_)[str(path[0])]}

        yield f"{type_name}.{name}:{_said(path)}", Taker(kind="query", query=query, put=put)


def _variables(kind: str, operation: Operation, place: Place) -> dict[str, Any]:
    given = operation.given(place)
    return {"input": given} if kind == "mutation" else given


def _said(path: Path_) -> str:
    return ".".join(map(str, path))


def _id_paths(given: Places, base: Mapping[str, Any]) -> Iterator[Path_]:
    """Yield the path of every place under these arguments where an id goes, along what `base` has."""
    for name, one in given.items():
        for path in _id_paths_of(one.type, base.get(name)):
            yield (name, *path)


def _id_paths_of(kind: GraphQLInputType, base: Any) -> Iterator[Path_]:
    if isinstance(kind, GraphQLNonNull):
        yield from _id_paths_of(kind.of_type, base)
    elif isinstance(kind, GraphQLList):
        for path in _id_paths_of(kind.of_type, base[0] if base else None):
            yield (0, *path)
    elif isinstance(kind, GraphQLInputObjectType):
        if base is not None or not any(map(is_required_input_field, kind.fields.values())):
            yield from _id_paths(kind.fields, base or {})
    elif kind.name == "ID":
        yield ()


def _with(base: Mapping[str, Any], given: Places, path: Path_, id_: str) -> dict[str, Any]:
    """Return the variables with an id in one place, where there was another one or none."""
    name = str(path[0])
    return {**base, name: _put(given[name].type, base.get(name), path[1:], id_)}


def _put(kind: GraphQLInputType, base: Any, path: Path_, id_: str) -> Any:
    if isinstance(kind, GraphQLNonNull):
        return _put(kind.of_type, base, path, id_)
    if isinstance(kind, GraphQLList):
        items = list(base or [])
        return [_put(kind.of_type, items[0] if items else None, path[1:], id_), *items[1:]]
    if isinstance(kind, GraphQLInputObjectType):
        return _with({} if kind.is_one_of else base or {}, kind.fields, path, id_)
    return id_


class _Names(dict[str, str]):
    def __missing__(self, type_name: str) -> str:
        return type_name


_NOWHERE = Place(
    workspace=Workspace(
        id=uuid7(),
        name="",
        slug="",
        key_version=1,
        config_version=1,
        created_at=datetime.now(UTC),
        updated_at=datetime.now(UTC),
    ),
    who="",
    samples=_Names(),
)
"""A place whose samples are called by their types, to see where an input takes ids."""

TAKERS = dict(takers())


def test_places_for_ids_are_found_in_arguments_inputs_lists_and_what_nests_in_them() -> None:
    assert {
        "node:id",
        "nodes:ids.0",
        "updateMember:input.id",
        "createApiToken:input.workspaceId",
        "createApiToken:input.credentialIds.0",
        "addModel:input.credential.existingId",
        "completion:input.credentialId",
        "Workspace.auditLog:subjectId",
        "Workspace.invocations:filter.credentialId",
    } <= set(TAKERS)


@pytest.mark.parametrize("name", TAKERS)
async def test_a_foreign_id_is_answered_as_an_unknown_one(still: World, sampled: Sampled, name: str) -> None:
    """The owner of `away` asks with the ids of `home`."""
    taker, away, home = TAKERS[name], sampled.places["away"], sampled.places["home"]
    before = await rows(still) if taker.kind != "query" else {}

    for type_name in NODES:
        foreign = home[type_name]
        never, forged = matrix.unknown(foreign), _forged(foreign, away)
        answers = [await _answer(still, taker, taker.put(away, id_)) for id_ in (foreign, never, *forged)]

        assert all(answer == answers[0] for answer in answers), (type_name, answers)
        if taker.kind == "mutation":
            assert _failed(answers[0]), (type_name, answers[0])

    assert taker.kind == "query" or await rows(still) == before


async def _answer(world: World, taker: Taker, variables: dict[str, Any]) -> Any:
    if taker.kind == "subscription":
        return await first_of(world, "stranger", taker.query, **variables)
    return await world.ask("stranger", taker.query, **variables)


def _forged(foreign: str, place: Place) -> list[str]:
    """Return the id with the asker's own workspace in it, where it names one before a key that is nobody else's."""
    decoded = ids.decode(foreign)
    assert decoded is not None
    type_name, parts = decoded
    is_everybodys = type_name == "Product"  # the operator sells the same to all workspaces
    is_composite = not is_everybodys and len(parts) > 1 and all(ids.uuid_of(part) for part in parts)
    return [ids.encode(type_name, place.workspace.id, *parts[1:])] if is_composite else []


def _failed(answer: Any) -> bool:
    return "errors" in answer or any(payload["errors"] for payload in answer["data"].values())
