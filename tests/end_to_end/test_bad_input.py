"""What a user gets wrong, and what a provider does wrong while its credential is saved: said clearly, nothing kept."""

from typing import Any

import pytest

from tests.fake_provider import SCENARIOS, FakeProvider, Scenario
from tests.product import ADD_MODEL, LLM, Product

KEY = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id } errors { code message path } } }"""
STORED = """{ workspace { credentials { totalCount } models(type: LLM, search: "mine") { totalCount } auditLog: slug
  provider(name: "openai_compatible") { customStatus preferredType } } }"""


def given(**values: str) -> dict[str, Any]:
    """Return an AddModelInput of an OpenAI-compatible server."""
    return {
        "model": {"provider": LLM, "name": "mine", "type": "LLM"},
        "credential": {"new": {"values": [{"field": name, "value": value} for name, value in values.items()]}},
    }


async def refused(product: Product, query: str, given: dict[str, Any]) -> Any:
    """Return the one error of a mutation that changed nothing and said no secret."""
    before = await product.data(STORED)
    answer = await product.ask(query, input=given)
    (payload,) = answer["data"].values()
    (error,) = payload["errors"]
    assert all(value is None for name, value in payload.items() if name != "errors"), payload
    assert await product.data(STORED) == before
    assert KEY not in str(answer)
    return error


@pytest.mark.parametrize(
    "base_url",
    [
        "not a url",
        "ftp://127.0.0.1/v1",
        "http://",
        "http://user:pass@127.0.0.1/v1",
        "http://127.0.0.1:99999/v1",
        "http://10.0.0.1/v1",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:10.0.0.1]/v1",
        "http://0x0a000001/v1",
        "http://metadata.internal.invalid/v1",
    ],
)
async def test_a_base_url_that_cannot_serve_stores_nothing(product: Product, base_url: str) -> None:
    error = await refused(product, ADD_MODEL, given(base_url=base_url, api_key=KEY))

    assert error["code"] in {"INVALID_INPUT", "CREDENTIAL_INVALID", "UPSTREAM_UNAVAILABLE"}
    assert error["message"].strip()


async def test_a_container_that_looks_for_its_host_is_told_where_it_is(product: Product) -> None:
    error = await refused(product, ADD_MODEL, given(base_url="http://localhost:1/v1", api_key=KEY))

    assert error["code"] == "UPSTREAM_UNAVAILABLE"
    assert "host.docker.internal" in error["message"]


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        (SCENARIOS["unauthorized"], "CREDENTIAL_INVALID"),
        (SCENARIOS["html"], "UPSTREAM_PROTOCOL"),
        (SCENARIOS["html_error"], "UPSTREAM_UNAVAILABLE"),
        (SCENARIOS["redirect"], "CREDENTIAL_INVALID"),
        (SCENARIOS["hangs_up"], "UPSTREAM_UNAVAILABLE"),
        (SCENARIOS["server_error"], "UPSTREAM_UNAVAILABLE"),
        (Scenario(content_type="application/json", body=b"x" * (10 * 1024 * 1024)), "UPSTREAM_PROTOCOL"),
    ],
)
async def test_a_provider_that_misbehaves_while_a_key_is_saved_stores_nothing(
    product: Product, provider: FakeProvider, scenario: Scenario, code: str
) -> None:
    provider.answers_at("/v1/models", scenario)
    provider.answers(scenario)

    error = await refused(product, ADD_MODEL, given(base_url=provider.url, api_key=KEY))

    assert error["code"] == code, error


@pytest.mark.parametrize(
    ("query", "changes", "code", "path"),
    [
        (CREATE, {"provider": "nobody"}, "NOT_FOUND", ["provider"]),
        (CREATE, {"values": [{"field": "api_kee", "value": KEY}]}, "INVALID_INPUT", ["values", "api_kee"]),
        (CREATE, {"values": []}, "INVALID_INPUT", ["values", "api_key"]),
        (CREATE, {"values": [{"field": "api_key", "value": "k" * 100_000}]}, "INVALID_INPUT", ["values", "api_key"]),
        (CREATE, {"name": "n" * 65}, "INVALID_INPUT", ["name"]),
        (CREATE, {"workspaceId": "nonsense"}, "NOT_FOUND", ["workspaceId"]),
    ],
)
async def test_a_wrong_field_is_named(
    product: Product, query: str, changes: dict[str, Any], code: str, path: list[str]
) -> None:
    right = {"provider": "openai", "verify": False, "values": [{"field": "api_key", "value": KEY}]}

    error = await refused(product, query, right | changes)

    assert (error["code"], error["path"]) == (code, path), error


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"query": 5}', 400),
        (b'{"query": "{ nope }"}', 400),
        (b'{"query": "{ viewer { nope } }"}', 400),
        (b'{"query": "query ($n: Int!) { viewer { isOperator } }", "variables": {"n": "x"}}', 400),
        (b"\xff\xfe", 400),
    ],
)
async def test_a_request_that_cannot_be_read_is_refused_and_the_next_is_served(
    product: Product, body: bytes, status: int
) -> None:
    answer = await product.post(body, accept="application/graphql-response+json")

    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["message"]
    assert await product.data("{ viewer { isOperator } }")


async def test_a_huge_body_of_nobody_is_not_read(product: Product) -> None:
    answer = await product.post(b'{"query": "' + b"a " * 200_000 + b'"}', token="")

    assert answer.status_code == 413, answer.text
    assert answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("name", "values", "path", "hint"),
    [
        ("openai", {"api_key": f"{KEY[:9]} {KEY[9:]}"}, "api_key", "holds a blank"),
        ("openai", {"api_key": f"{KEY[:9]}\n{KEY[9:]}"}, "api_key", "line breaks"),
        ("openai", {"api_key": f"{KEY}é"}, "api_key", "characters that no key has"),
        ("anthropic", {"api_key": KEY, "base_url": "https://api.anthropic.com/v1"}, "base_url", "enter https://api."),
        ("cohere", {"api_key": KEY, "base_url": "https://api.cohere.com/v2/chat"}, "base_url", "enter https://api."),
        ("gemini", {"api_key": '{"type": "service_account"}'}, "api_key", "aistudio.google.com"),
    ],
)
async def test_the_usual_mistakes_are_told_by_their_field_before_anything_leaves(
    product: Product, provider: FakeProvider, name: str, values: dict[str, str], path: str, hint: str
) -> None:
    entered = [{"field": field, "value": value} for field, value in values.items()]

    error = await refused(product, CREATE, {"provider": name, "values": entered})

    assert error["code"] in {"INVALID_INPUT", "CREDENTIAL_INVALID"}
    assert error["path"] == ["values", path]
    assert hint in error["message"]
    assert provider.requests == []


async def test_what_is_pasted_along_is_taken_off(product: Product, provider: FakeProvider) -> None:
    pasted = given(base_url=f" {provider.url}/chat/completions/ ", api_key=f'"Bearer {KEY}" ')

    payload = (await product.data(ADD_MODEL, input=pasted))["addModel"]

    assert payload["errors"] == []
    assert {(request.path, request.key) for request in provider.requests} == {("/v1/models", KEY)}


async def test_a_model_of_a_type_that_its_provider_lacks_is_refused(product: Product, provider: FakeProvider) -> None:
    asked = given(base_url=provider.url, api_key=KEY) | {
        "model": {"provider": "anthropic", "name": "mine", "type": "RERANK"}
    }

    error = await refused(product, ADD_MODEL, asked)

    assert (error["code"], error["path"]) == ("INVALID_INPUT", ["model", "type"])
    assert "RERANK" in error["message"]
    assert provider.requests == []
