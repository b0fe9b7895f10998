"""What is secret is nowhere in clear: no answer, error, log line, database file, Valkey or job payload."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from core.settings import Settings
from tests.fake_provider import FakeProvider, Scenario
from tests.product import ADD_MODEL, LLM, Product, model

KEY = "sk-canary-7f3c9a1e5b2d4f6081a3c5e7"
FIELDS = [{"field": "api_key", "value": KEY}]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_no_secret_is_to_be_found_anywhere(
    product: Product,
    provider: FakeProvider,
    product_settings: Settings,
    tmp_path: Path,
    lines: pytest.LogCaptureFixture,
) -> None:
    for scenario in ("text", "unauthorized", "cut", "malformed"):
        await product.add_model(scenario, provider.url, KEY)
        await product.stream(model=model(scenario))
    provider.answers_at("/v1/models", provider_refuses(KEY))
    refused = await product.data(
        ADD_MODEL,
        input={
            "model": {"provider": LLM, "name": "refused", "type": "LLM"},
            "credential": {"new": {"values": [{"field": "base_url", "value": provider.url}, *FIELDS]}},
        },
    )
    unverified = {
        "model": {"provider": LLM, "name": "unverified", "type": "LLM"},
        "credential": {"new": {"values": [{"field": "base_url", "value": provider.url}, *FIELDS]}},
        "verify": False,
    }
    await product.changed(ADD_MODEL, **unverified)
    await product.data(
        "{workspace{credentials(first:50){nodes{name values{field value isSecret} problem{message}}}"
        "invocations{nodes{error{message} attempts{error{message}}}}}}"
    )
    await product.ask("{viewer{isOperator}}", token="my_" + "wrong" * 9)

    assert refused["addModel"]["errors"][0]["code"] == "CREDENTIAL_INVALID"
    places = {
        "answers": "\n".join(product.seen),
        "log": lines.text,
        "files": "".join(path.read_bytes().decode("latin-1") for path in tmp_path.glob("modelyard.db*")),
        "valkey": await _everything(product_settings.redis_url),
    }
    assert all(places.values()) or not places["valkey"]
    for secret in (KEY, KEY[3:25], product.token):
        for name, content in places.items():
            assert secret not in content, f"{secret[:6]}… is in the {name}"


def provider_refuses(key: str) -> Scenario:
    return Scenario(status=401, body=b'{"error":{"message":"Incorrect API key provided: ' + key.encode() + b'"}}')


async def _everything(url: str) -> str:
    client: Any = redis.asyncio.Redis.from_url(url)
    try:
        found = [str(key) + str(await client.dump(key)) async for key in client.scan_iter()]
    finally:
        await client.aclose()
    return "".join(found)
