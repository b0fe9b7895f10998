"""Every recorded embedding and ranking comes through the whole product as the official clients read it."""

import os
from pathlib import Path
from typing import Any

import pytest

from core.errors import ErrorCode
from tests.product import ADD_MODEL, LLM, Product
from tests.wire.recordings import KINDS, Recording, Replay, load

FOLDER = os.environ.get("MODELYARD_RECORDINGS", "")
DIALECTS = ("openai-embeddings", "voyage", "cohere", "gemini")
RECORDINGS = load(Path(FOLDER), DIALECTS, ("embeddings", "rerank")) if FOLDER else []
TYPES = {"embeddings": "TEXT_EMBEDDING", "rerank": "RERANK"}
OWN = frozenset({"cohere", "gemini"})
"""Providers whose base URL has no version; all others speak as OpenAI does."""

KEY = "key-0123456789abcdef"

EMBED = """mutation ($input: EmbedInput!) { embed(input: $input) {
  embeddings invocation { usage { inputTokens requests estimated } } errors { code message } } }"""
RERANK = """mutation ($input: RerankInput!) { rerank(input: $input) {
  hits { index score } invocation { usage { inputTokens requests } } errors { code message } } }"""

pytestmark = pytest.mark.skipif(not FOLDER, reason="MODELYARD_RECORDINGS names no folder of recorded answers")


async def add(product: Product, base_url: str, recording: Recording) -> None:
    """Add the model that answers as recorded."""
    provider = _provider(recording)
    values = {"base_url": base_url.removesuffix("/v1") if provider in OWN else base_url, "api_key": KEY}
    await product.changed(
        ADD_MODEL,
        model={"provider": provider, "name": recording.name, "type": TYPES[recording.kind]},
        credential={"new": {"values": [{"field": name, "value": value} for name, value in values.items()]}},
        verify=False,
    )


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 1000])
async def test_a_recording_comes_through_as_it_is(
    recording: Recording, piece_bytes: int, product: Product, replay: Replay
) -> None:
    replay.piece_bytes = piece_bytes
    expected, asked = recording.expected, {"model": {"provider": _provider(recording), "name": recording.name}}

    if recording.kind == "rerank":
        given = {"query": "q", "documents": recording.request["documents"]}
        payload = (await product.data(RERANK, input=asked | given))["rerank"]
        assert payload["hits"] == expected["rerank"]
        assert payload["invocation"]["usage"]["requests"] == expected["search_units"]
        return
    payload = (await product.data(EMBED, input=asked | _texts(recording)))["embed"]
    if expected["error"]:
        assert {ErrorCode(error["code"]) for error in payload["errors"]} <= KINDS[expected["error"]["kind"]]
        assert payload["embeddings"] is None
        return
    assert payload["errors"] == []
    assert {len(vector) for vector in payload["embeddings"]} == {expected["embeddings"]["dimensions"]}
    assert [round(value, 6) for value in payload["embeddings"][0][:4]] == expected["embeddings"]["first"]
    usage = payload["invocation"]["usage"]
    assert usage["estimated"] is (expected["usage"] is None)
    assert expected["usage"] is None or usage["inputTokens"] == expected["usage"]["input_total"]


def _provider(recording: Recording) -> str:
    dialect = recording.name.partition("/")[0]
    return dialect if dialect in OWN else LLM


def _texts(recording: Recording) -> dict[str, Any]:
    asked = recording.request
    if "requests" in asked:
        size = asked["requests"][0].get("outputDimensionality")
        texts = [part["text"] for one in asked["requests"] for part in one["content"]["parts"]]
        return {"texts": texts, "dimensions": size}
    sent = asked.get("input") or asked["texts"]
    more = {"dimensions": asked["dimensions"]} if asked.get("dimensions") else {}
    return {"texts": [sent] if isinstance(sent, str) else sent, **more}
