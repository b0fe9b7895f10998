"""What is said of a document or a value that is wrong repeats no value: it may be a secret that stands in the wrong place."""

from typing import Any

import pytest

from graph.context import make_context
from graph.documents import Refused
from graph.execution import refusal
from tests.graph.world import ENGINE, SECONDS, World

SECRET = "sk-canary'0123\"456"
WRITTEN = SECRET.replace('"', '\\"')
CREATE = "mutation ($i: CreateCredentialInput!) { createCredential(input: $i) { errors { code } } }"


def entered(**field: Any) -> dict[str, Any]:
    return {"provider": "openai", "values": [{"field": "api_key"} | field]}


@pytest.mark.parametrize(
    "query",
    [
        'mutation { createCredential(input: { values: [{ field: "api_key" "%s" }] }) { errors { code } } }',
        'mutation { createCredential(input: { values: [{ field "%s" }] }) { errors { code } } }',
        '{ viewer { id } } """%s""" "%s"',
        '{ viewer "%s" { id } }',
        '{ workspaces(first: "%s") { totalCount } }',
        '{ workspaces(first: ["%s"]) { totalCount } }',
        '{ workspaces(search: { a: "%s" }) { totalCount } }',
        '{ workspace { models(type: "%s") { totalCount } } }',
        '{ workspace { usage(from: "%s", to: "%s") { calls } } }',
        'mutation { setModelPricing(input: { id: "x", pricing: { currency: "USD", input: "%s" } }) { errors { code } } }',
    ],
)
def test_a_document_that_is_wrong_is_not_repeated(query: str) -> None:
    with pytest.raises(Refused) as refused:
        ENGINE.documents.prepare(query.replace("%s", WRITTEN), None)

    said = refusal(refused.value).decode()
    assert "canary" not in said
    assert '"code":"BAD_REQUEST"' in said


@pytest.mark.parametrize(
    "given",
    [
        SECRET,
        [SECRET],
        {"provider": SECRET},
        entered(value={"is": SECRET}),
        entered(value=[SECRET]),
        entered(value=SECRET, other=SECRET),
        entered(value=SECRET) | {"verify": SECRET},
        entered(value=SECRET) | {"model": {"name": "x", "type": SECRET}},
        entered(value=SECRET) | {"values": SECRET},
    ],
)
async def test_a_value_that_does_not_fit_is_not_repeated(world: World, given: Any) -> None:
    context = make_context(world.app, await world.viewer("owner"))
    prepared = ENGINE.prepare(CREATE, None, context)

    with pytest.raises(Refused) as refused:
        await ENGINE.execute(prepared, {"i": given}, context, SECONDS)

    said = refusal(refused.value).decode()
    assert "canary" not in said
    assert "'$i'" in said
