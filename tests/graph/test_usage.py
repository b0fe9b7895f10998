"""Usage as it is asked for: who may, what is shown, and what is refused."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.access import Role
from core.entities import InvocationStatus
from core.ids import uuid7
from core.model_types import Usage
from core.model_types.llm import Cost
from graph import ids
from tests.graph.world import World, codes
from tests.storage import rows

USAGE = """query ($by: [UsageDimension!], $tag: String, $filter: InvocationFilter, $first: Int, $interval: UsageInterval,
        $from: DateTime!, $to: DateTime!) {
    workspace { usage(from: $from, to: $to, groupBy: $by, tagName: $tag, filter: $filter, first: $first, interval: $interval) {
        from to calls failures costs { amount currency } usage { inputTokens totalTokens estimated }
        key { provider modelName type providerType credentialName accountId tokenId endUser status tagValue }
    } } }"""
ALL = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
NOTHING = dict.fromkeys(
    ("provider", "modelName", "type", "providerType", "credentialName", "accountId", "tokenId", "endUser", "status", "tagValue")
)  # fmt: skip


async def _call(world: World, **changed: Any) -> None:
    async with world.app.storage.read() as tx:
        account = await tx.accounts.get_many([world.accounts["editor"]])
    tenant = rows.Tenant(
        workspace=world.home,
        account=account[world.accounts["editor"]],
        token=rows.token(id=world.tokens["editor"]),
        secret=None,  # type: ignore[arg-type]
    )
    made = rows.invocation(world.app, tenant, **changed)
    await world.app.invocations.admit(made)
    await world.app.invocations.settle(
        replace(made, status=changed.get("status", InvocationStatus.SUCCEEDED), ended_at=world.app.clock.now())
    )


async def test_usage_is_told_apart_by_what_is_asked_for(world: World) -> None:
    dollars, euros = Cost(amount="0.5", currency="USD"), Cost(amount="0.25", currency="EUR")
    await _call(world, usage=Usage(input_tokens=3, output_tokens=4), cost=dollars, tags={"team": "blue"}, end_user="jo")
    await _call(world, usage=Usage(input_tokens=1, estimated=True), cost=euros, tags={"team": "blue"})
    await _call(world, status=InvocationStatus.FAILED, credential_id=uuid7(), credential_name="spare")

    everything = await world.data("editor", USAGE, **ALL)
    by_tag = await world.data("editor", USAGE, **ALL, by=["TAG", "STATUS"], tag="team")
    by_person = await world.data("owner", USAGE, **ALL, by=["ACCOUNT", "TOKEN", "CREDENTIAL"])
    of_one = await world.data("editor", USAGE, **ALL, filter={"endUser": "jo"}, by=["MODEL", "PROVIDER", "TYPE"])

    assert everything["workspace"]["usage"] == [
        {
            **ALL,
            "calls": 3,
            "failures": 1,
            "costs": [{"amount": "0.25", "currency": "EUR"}, {"amount": "0.5", "currency": "USD"}],
            "usage": {"inputTokens": 4, "totalTokens": 8, "estimated": True},
            "key": NOTHING,
        }
    ]
    assert [(one["key"]["tagValue"], one["key"]["status"], one["calls"]) for one in by_tag["workspace"]["usage"]] == [
        (None, "FAILED", 1),
        ("blue", "SUCCEEDED", 2),
    ]
    failed = by_tag["workspace"]["usage"][0]
    assert (failed["costs"], failed["usage"]["estimated"]) == ([], False), "what is not known is not 0"
    who = {
        "accountId": ids.encode("Account", world.accounts["editor"]),
        "tokenId": ids.encode("ApiToken", world.tokens["editor"]),
    }
    assert [one["key"] for one in by_person["workspace"]["usage"]] == [
        NOTHING | who,
        NOTHING | who | {"credentialName": "spare"},
    ]
    (jo,) = of_one["workspace"]["usage"]
    assert jo["calls"] == 1
    assert jo["key"] == NOTHING | {"provider": "openai", "modelName": "gpt-4o", "type": "LLM"}


async def test_intervals_are_shown_as_far_as_they_are_asked_for(world: World) -> None:
    at = world.app.clock.now()
    await _call(world)
    since, until = (at - timedelta(seconds=1)).isoformat(), (at + timedelta(days=70)).isoformat()

    found = await world.data("editor", USAGE, **{"from": since, "to": until}, interval="MONTH")
    none = await world.data("editor", USAGE, **{"from": until, "to": (at + timedelta(days=71)).isoformat()})
    within = await world.data("editor", USAGE, **ALL, filter={"to": since})

    (month,) = found["workspace"]["usage"]
    assert month["from"].replace("Z", "+00:00") == since
    assert month["to"][8:] == "01T00:00:00Z"
    assert none["workspace"]["usage"] == within["workspace"]["usage"] == []


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"to": "2020-01-01T00:00:00Z"}, "to"),
        ({"by": ["TAG"]}, "tagName"),
        ({"tag": "team"}, "tagName"),
        ({"first": 0}, "first"),
        ({"first": 1001}, "first"),
        ({"filter": {"tags": [{"name": "", "value": "x"}]}}, "filter.tags.0"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(shared_world: World, asked: dict[str, Any], path: str) -> None:
    answer = await shared_world.ask("editor", USAGE, **ALL | asked)

    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "INVALID_INPUT"
    assert error["extensions"]["path"] == path.split(".")


async def test_usage_needs_its_permission_and_credentials_theirs(shared_world: World) -> None:
    by_credential = {"by": ["PROVIDER", "CREDENTIAL"]}
    of_credential = {"filter": {"credentialId": ids.encode("Credential", shared_world.home.id, uuid7())}}

    for name, asked, allowed in (
        (Role.MEMBER.lower(), {}, False),
        ("service", {}, False),
        ("editor", {}, True),
        ("editor", by_credential, False),
        ("editor", of_credential, False),
        ("admin", by_credential | of_credential, True),
    ):
        answer = await shared_world.ask(name, USAGE, **ALL, **asked)
        assert codes(answer) == ([] if allowed else [("workspace.usage", "FORBIDDEN")]), (name, asked)


async def test_times_without_end_are_taken_as_far_as_they_go(shared_world: World) -> None:
    ages = {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}

    for interval in (None, "HOUR", "DAY", "MONTH"):
        await shared_world.data("editor", USAGE, **ages, interval=interval)
