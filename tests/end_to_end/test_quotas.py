"""Hosted use as its caller sees it: the operator's file, the trial that every workspace gets, and what calls draw."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.settings import Settings, SettingsError
from storage.resources import open_app
from tests.conftest import settings_for, sqlite_in
from tests.end_to_end.apis import installation
from tests.fake_provider import FakeProvider
from tests.product import COMPLETE, NO_TLS, Client, Product, chat, check_sequence, model, running

QUOTAS = """{ workspace { quotas { id type unit limit used reserved remaining isValid resetsEvery provider { name }
  entries(first: 10) { nodes { kind limitChange usedChange reservedChange remaining } } } } }"""
FILE = """
[providers.openai_compatible]
values = {{ api_key = "env:HOSTED_KEY", base_url = "{url}" }}
models = [{{ name = "text", type = "LLM" }}, {{ name = "unauthorized", type = "LLM" }}, {{ name = "dear", type = "LLM" }}]
base_models = {{ dear = "text" }}
credits = {{ dear = 3 }}
grants = [{{ type = "TRIAL", unit = "CREDITS", limit = 4, resets_every = "TOTAL" }}]
"""


@pytest.fixture
async def product(
    sqlite_template: Path, redis_url: str, tmp_path: Path, provider: FakeProvider
) -> AsyncIterator[Product]:
    """Return a running product that hosts the fake provider."""
    hosted = tmp_path / "hosted.toml"
    hosted.write_text(FILE.format(url=provider.url).replace("env:HOSTED_KEY", f"file:{tmp_path / 'key'}"))
    (tmp_path / "key").write_text("sk-hosted-0123456789abcdef\n")
    url = sqlite_in(tmp_path, sqlite_template)
    async with running(
        settings_for(url, redis_url, tmp_path, EGRESS_ALLOW="127.0.0.0/8:*", HOSTED=str(hosted))
    ) as started:
        yield started


async def _quota(product: Product) -> Any:
    (found,) = (await product.data(QUOTAS))["workspace"]["quotas"]
    return found


async def test_hosted_calls_draw_the_trial_until_it_is_used_up(product: Product) -> None:
    before = await _quota(product)
    assert (before["type"], before["limit"], before["used"], before["resetsEvery"]) == ("TRIAL", 4, 0, None)

    events = await product.stream(model=model("dear"))
    payload = await product.changed(COMPLETE, **chat(model=model("text")))
    refused = await product.stream(model=model("text"))

    check_sequence(events)
    assert (events[0]["providerType"], events[0]["credentialName"]) == ("SYSTEM", None)
    assert events[-1]["__typename"] == "CompletionFinished"
    assert payload["message"]["text"]
    assert [event["error"]["code"] for event in refused] == ["QUOTA_EXCEEDED"]
    after = await _quota(product)
    assert (after["used"], after["reserved"], after["remaining"], after["isValid"]) == (4, 0, 0, False)
    kinds = [entry["kind"] for entry in reversed(after["entries"]["nodes"])]
    assert kinds == ["GRANT", "RESERVE", "SETTLE", "RESERVE", "SETTLE"]


async def test_a_failure_before_the_first_delta_costs_nothing(product: Product) -> None:
    events = await product.stream(model=model("unauthorized"))
    assert events[-1]["error"]["code"] == "UPSTREAM_AUTHENTICATION"

    quota = await _quota(product)

    assert (quota["used"], quota["reserved"]) == (0, 0)


async def test_a_workspace_made_later_gets_the_trial_once(product: Product) -> None:
    create = "mutation ($input: CreateWorkspaceInput!) { createWorkspace(input: $input) { workspace { id quotas { type limit } } errors { message } } }"

    made = await product.changed(create, name="Second")

    assert made["workspace"]["quotas"] == [{"type": "TRIAL", "limit": 4}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[providers.nobody]\nmodels = ["a"]', "there is no such provider"),
        ('[providers.openai]\nvalues = { api_key = "env:NOT_SET_ANYWHERE" }', "NOT_SET_ANYWHERE, which is not set"),
        ('[providers.openai]\nmodels = ["no-such-model"]', "no predefined model 'no-such-model'"),
        ("[providers.openai]\nlimits = 3", "unknown field"),
        ("[providers.openai]\nvalues = {}", "api_key"),
        ("[providers", "which is no TOML"),
    ],
)
async def test_a_wrong_file_is_told_at_start(
    sqlite_template: Path, redis_url: str, tmp_path: Path, text: str, said: str
) -> None:
    hosted, url = tmp_path / "hosted.toml", sqlite_in(tmp_path, sqlite_template)
    hosted.write_text(text)

    with pytest.raises(SettingsError, match=said):
        async with open_app(settings_for(url, redis_url, tmp_path, HOSTED=str(hosted))):
            pass


async def test_the_same_key_gives_the_same_call_charged_once(product: Product) -> None:
    given: dict[str, Any] = {"model": model("text"), "idempotencyKey": "once"}

    first, twin = await asyncio.gather(product.stream(**given), product.stream(**given))
    again = await product.stream(**given)
    whole = await product.changed(COMPLETE, **chat(**given))
    other = await product.stream("something else", **given)

    assert first[-1]["__typename"] == "CompletionFinished"
    assert first[0]["invocationId"] == twin[0]["invocationId"] == again[0]["invocationId"]
    assert [event["sequence"] for event in again] == list(range(len(again)))
    assert whole["message"]["text"] == first[-1]["message"]["text"] == again[-1]["message"]["text"]
    assert [event["error"]["code"] for event in other] == ["CONFLICT"]
    quota = await _quota(product)
    assert (quota["used"], quota["reserved"]) == (1, 0)


async def test_of_500_calls_through_two_processes_exactly_those_with_room_are_served(
    settings: Settings, provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("v")  # a socket's path is short
    (folder / "key").write_text("sk-hosted-0123456789abcdef")
    hosted = folder / "hosted.toml"
    hosted.write_text(
        FILE.format(url=provider.url)
        .replace("env:HOSTED_KEY", f"file:{folder / 'key'}")
        .replace('"CREDITS", limit = 4', '"TIMES", limit = 37')
    )
    body = {"query": COMPLETE, "variables": {"input": chat(model=model("text"))}}

    async with installation(replace(settings, data=folder), HOSTED=str(hosted)) as installed:
        apis = await installed.pair()

        async def calls(api: Client) -> list[Any]:
            async with httpx.AsyncClient(timeout=120, verify=NO_TLS, headers=api.headers()) as client:
                answers = await asyncio.gather(*(client.post(f"{api.url}/graphql", json=body) for _ in range(250)))
            return [answer.json()["data"]["complete"] for answer in answers]

        payloads = [payload for found in await asyncio.gather(*map(calls, apis)) for payload in found]
        (quota,) = (await apis[0].data(QUOTAS))["workspace"]["quotas"]

    served = [payload for payload in payloads if payload["message"] is not None]
    refused = [payload["errors"][0]["code"] for payload in payloads if payload["message"] is None]
    assert (len(served), refused) == (37, ["QUOTA_EXCEEDED"] * 463)
    assert len(provider.calls) == 37
    assert (quota["used"], quota["reserved"]) == (37, 0)
