"""Who may read and do what, where the matrix of every field and principal does not say it all."""

import pytest
import strawberry
from graphql import GraphQLObjectType, GraphQLSchema, build_schema

from core.access import Permission, Role, lacking
from core.entities import Member
from core.ids import uuid7
from graph import ids
from graph.permissions import FIELD_PERMISSIONS, OPEN, TYPE_PERMISSIONS, Undeclared, guard
from graph.schema import schema
from tests.graph.world import World, codes

COMPLETE = """mutation ($input: CompletionInput!) { complete(input: $input) {
  message { text } finishReason invocation { id status credentialName } errors { code message path } } }"""
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id name isActive status values { field value isSecret } } provider { customStatus }
  errors { code message path } } }"""
ECHO = {"provider": "echo", "name": "echo"}


@pytest.mark.parametrize(
    ("principal", "slugs"),
    [("owner", ["home"]), ("service", ["home"]), ("stranger", ["away"]), ("operator", ["home", "away"])],
)
async def test_workspaces_are_ones_own_and_for_an_operator_all(
    shared_world: World, principal: str, slugs: list[str]
) -> None:
    data = await shared_world.data(principal, "{ workspaces { totalCount nodes { slug } } }")

    assert data["workspaces"]["totalCount"] == len(slugs)
    assert {one["slug"] for one in data["workspaces"]["nodes"]} == set(slugs)


@pytest.mark.parametrize("principal", ["owner", "stranger", "operator", "service"])
async def test_only_a_personal_token_makes_a_workspace_and_owns_it(world: World, principal: str) -> None:
    query = """mutation ($input: CreateWorkspaceInput!) { createWorkspace(input: $input) {
      workspace { name viewerRole providers { totalCount } members { nodes { role } } } errors { code } } }"""

    payload = (await world.data(principal, query, input={"name": "New one"}))["createWorkspace"]

    if principal == "service":
        assert payload == {"workspace": None, "errors": [{"code": "FORBIDDEN"}]}
    else:
        assert payload["errors"] == []
        assert payload["workspace"]["viewerRole"] == "OWNER"
        assert payload["workspace"]["members"]["nodes"] == [{"role": "OWNER"}]


async def test_an_id_of_a_foreign_workspace_is_as_unknown_as_one_that_never_was(world: World) -> None:
    created = await world.change("owner", CREATE, provider="echo", values=[{"field": "prefix", "value": "so"}])
    made = await world.change("owner", COMPLETE, model=ECHO, messages=[{"role": "USER", "text": "hi"}])
    own = {
        "Workspace": ids.encode("Workspace", world.home.id),
        "Credential": created["credential"]["id"],
        "Provider": ids.encode("Provider", world.home.id, "echo"),
        "Model": ids.encode("Model", world.home.id, "echo", "LLM", "echo"),
        "Invocation": made["invocation"]["id"],
        "ApiToken": ids.encode("ApiToken", world.tokens["owner"]),
        "Account": ids.encode("Account", world.accounts["owner"]),
    }
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }"
    nothing = [
        "",
        "x",
        "ÿ",
        "!!!!",
        own["Workspace"][:-2],
        ids.encode("Workspace", "0" * 32),
        ids.encode("Nothing", "1"),
    ]

    seen = await world.data("owner", query, ids=[*own.values(), *nothing])
    foreign = await world.ask("stranger", query, ids=[*own.values(), *nothing])

    assert seen["nodes"] == [*({"__typename": name, "id": id_} for name, id_ in own.items()), *[None] * len(nothing)]
    assert foreign == {"data": {"nodes": [None] * (len(own) + len(nothing))}}
    for name, id_ in own.items():
        assert await world.ask("stranger", "query ($id: ID!) { node(id: $id) { id } }", id=id_) == {
            "data": {"node": None}
        }, name


async def test_a_node_of_ones_own_workspace_still_needs_the_permission_of_its_type(world: World) -> None:
    created = await world.change("owner", CREATE, provider="echo", values=[{"field": "prefix", "value": "so"}])
    made = await world.change("owner", COMPLETE, model=ECHO, messages=[{"role": "USER", "text": "hi"}])
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    given = [
        created["credential"]["id"],
        made["invocation"]["id"],
        ids.encode("ApiToken", world.tokens["service"]),
        ids.encode("Model", world.home.id, "echo", "LLM", "echo"),
    ]

    answer = await world.ask("member", query, ids=given)

    assert answer["data"]["nodes"] == [None, None, None, {"id": given[3]}]
    assert sorted(codes(answer)) == [(f"nodes.{number}", "FORBIDDEN") for number in range(3)]


async def test_a_credentials_name_in_a_record_needs_credential_read(world: World) -> None:
    await world.change("owner", CREATE, provider="echo", name="the key", values=[{"field": "prefix", "value": "so"}])
    call = {"model": ECHO, "messages": [{"role": "USER", "text": "hi"}]}
    record = (
        "{ workspace { invocations { nodes { credentialName attempts { credentialName } credential { name } } } } }"
    )

    by_member = await world.change("member", COMPLETE, **call)
    by_owner = await world.change("owner", COMPLETE, **call)
    seen = await world.ask("member", record)
    by_all = await world.data("owner", record)

    assert by_member["invocation"]["credentialName"] is None
    assert by_owner["invocation"]["credentialName"] == "the key"
    assert seen["data"]["workspace"]["invocations"]["nodes"] == [
        {"credentialName": None, "attempts": [{"credentialName": None}], "credential": None}
    ]
    assert codes(seen) == [("workspace.invocations.nodes.0.credential", "FORBIDDEN")]
    shown = {
        "credentialName": "the key",
        "attempts": [{"credentialName": "the key"}],
        "credential": {"name": "the key"},
    }
    assert by_all["workspace"]["invocations"]["nodes"] == [shown, shown]


@pytest.mark.parametrize(("principal", "expected"), [("owner", 3), ("editor", 3), ("member", 1), ("service", 1)])
async def test_without_usage_read_one_sees_ones_own_calls(world: World, principal: str, expected: int) -> None:
    for caller in ("owner", "member", "service"):
        await world.change(caller, COMPLETE, model=ECHO, messages=[{"role": "USER", "text": "hi"}])

    data = await world.data(principal, "{ workspace { invocations { totalCount nodes { id } } } }")

    assert data["workspace"]["invocations"]["totalCount"] == expected
    assert len(data["workspace"]["invocations"]["nodes"]) == expected


async def test_people_are_seen_by_those_who_may_see_members(world: World) -> None:
    query = "query ($id: ID!) { node(id: $id) { ... on Account { name memberships { role } } } }"
    account = ids.encode("Account", world.accounts["owner"])

    seen = await world.data("editor", query, id=account)
    refused = await world.ask("member", query, id=account)
    own = await world.data("member", "{ viewer { account { email memberships { role workspace { slug } } } } }")

    assert seen["node"] == {"name": "owner", "memberships": [{"role": "OWNER"}]}
    assert codes(refused) == [("node", "FORBIDDEN")]
    assert own["viewer"]["account"]["memberships"] == [{"role": "MEMBER", "workspace": {"slug": "home"}}]


async def test_seeing_the_members_of_one_workspace_does_not_show_those_of_another(world: World) -> None:
    """The editor of `home` may see its members; in `away` they are a plain member."""
    async with world.app.storage.transaction() as tx:
        await tx.members.insert(
            Member(
                id=uuid7(),
                workspace_id=world.away.id,
                account_id=world.accounts["editor"],
                role=Role.MEMBER,
                created_at=world.app.clock.now(),
            )
        )
    query = "query ($id: ID!) { node(id: $id) { ... on Account { name } } }"

    answer = await world.ask("editor", query, id=ids.encode("Account", world.accounts["stranger"]))

    assert codes(answer) == [("node", "FORBIDDEN")]


# ---- the tables


def test_every_type_is_in_exactly_one_table() -> None:
    assert not set(TYPE_PERMISSIONS) & OPEN


def test_a_type_without_a_declared_permission_keeps_the_schema_from_being_built() -> None:
    undeclared: GraphQLSchema = build_schema("type Query { x: Hidden } type Hidden { secret: String }")

    with pytest.raises(Undeclared, match="Hidden"):
        guard(undeclared)


def test_a_table_that_names_what_is_not_there_keeps_the_schema_from_being_built() -> None:
    @strawberry.type
    class Query:
        x: int

    with pytest.raises(Undeclared, match=r"Workspace\.members"):
        guard(strawberry.Schema(query=Query)._schema)


def test_what_a_field_needs_is_said_in_its_description() -> None:
    types = schema._schema.type_map
    for (type_name, field_name), rule in FIELD_PERMISSIONS.items():
        kind = types[type_name]
        assert isinstance(kind, GraphQLObjectType)
        if isinstance(rule, str):
            assert str(rule) in (kind.fields[field_name].description or "")
    for name, rule in TYPE_PERMISSIONS.items():
        assert str(getattr(rule, "otherwise", rule)) in (types[name].description or "")


@pytest.mark.parametrize(
    ("permission", "who"),
    [
        (Permission.OWNER_MANAGE, "a token and a role of OWNER in the workspace"),
        (Permission.CREDENTIAL_READ, "a token and a role of OWNER or ADMIN in the workspace"),
        (
            Permission.ORDER_READ,
            "a token and a role of OWNER or ADMIN in the workspace, or an operator's personal token",
        ),
        (Permission.QUOTA_MANAGE, "an operator's personal token"),
    ],
)
def test_a_refusal_says_who_may(permission: Permission, who: str) -> None:
    assert lacking(permission).message == f"This needs the permission {permission}: {who}."
