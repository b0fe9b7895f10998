"""Pages within pages multiply: an operation that could be answered with too much is refused before anything is resolved."""

from typing import Any

import pytest

from graph.documents import Documents, Refused
from graph.schema import schema
from graph.sizes import Sizes
from tests.graph import test_settings_page, test_team_page
from tests.graph.world import World

MODELS = "models(first: 100) { nodes { name provider { models(first: $n) { nodes { name provider { models(first: 50) { totalCount nodes { name } } } } } } } }"


@pytest.fixture(scope="module")
def served() -> Documents:
    return Documents(schema._schema)


@pytest.mark.parametrize(
    ("query", "variables", "objects"),
    [
        ("{ viewer { isOperator account { name } } }", {}, 2),
        ("{ workspace { models { totalCount } } }", {}, 2),
        ("{ workspace { models { nodes { name } } } }", {}, 1 + 1 + 20),
        ("{ workspace { models(last: 7) { edges { cursor node { name } } pageInfo { endCursor } } } }", {}, 2 + 14 + 1),
        ("query ($n: Int) { workspaces(first: $n) { nodes { id } } }", {"n": 5}, 1 + 5),
        ("query ($n: Int) { workspaces(first: $n) { nodes { id } } }", {"n": 5000}, 1 + 100),
        ("query ($n: Int) { workspaces(first: $n) { nodes { id } } }", {"n": None}, 1 + 20),
        ("query ($n: Int = 30) { workspaces(first: $n) { nodes { id } } }", {}, 1 + 30),
        ("query ($n: Int) { workspaces(first: $n) { nodes { id } } }", None, 1 + 100),
        ("{ workspace { ...W } } fragment W on Workspace { models { ... { ...N } } } fragment N on ModelConnection { nodes { id } }", {}, 2 + 20),
        ('{ nodes(ids: ["a", "b"]) { ... on Pool { members { pool { members { id } } } } } }', {}, 2 * (1 + 10 * (1 + 1 + 10))),
        ("query ($i: [ID!]!) { nodes(ids: $i) { id } }", {"i": ["a", "b", "c"]}, 3),
        ('{ workspace { provider(name: "openai") { credentialForm { options { showOn { field } } } } } }', {}, 5),
        ("{ __schema { types { fields { name } } } }", {}, 0),
    ],
)  # fmt: skip
def test_objects_are_counted(served: Documents, query: str, variables: dict[str, Any] | None, objects: int) -> None:
    prepared = served.prepare(query, None)

    assert Sizes(schema._schema).objects(prepared.document, prepared.operation, variables) == objects


def test_what_is_given_for_variables_decides(served: Documents) -> None:
    prepared = served.prepare(f"query ($n: Int) {{ workspace {{ {MODELS} }} }}", None)

    served.check_size(prepared, {"n": 1})
    for too_many in ({"n": 100}, {}, {"n": "x"}):
        with pytest.raises(Refused) as refused:
            served.check_size(prepared, too_many)
        assert refused.value.errors[0].extensions == {"code": "OPERATION_TOO_LARGE", "limit": "objects"}


@pytest.mark.parametrize("page", [test_settings_page.PAGE, test_team_page.PAGE])
def test_the_largest_pages_there_are_fit(served: Documents, page: str) -> None:
    assert not served.prepare(page, None).checked.is_large


async def test_nothing_is_resolved_of_what_is_too_large(world: World) -> None:
    models = "models(first: 100) { nodes { name } }"
    for _ in range(2):
        models = f"models(first: 100) {{ nodes {{ provider {{ {models} }} }} }}"
    answer = await world.ask("member", f"{{ workspace {{ {models} }} }}")

    assert "data" not in answer
    assert answer["errors"][0]["extensions"]["code"] == "OPERATION_TOO_LARGE"
    assert "smaller pages" in answer["errors"][0]["message"]
