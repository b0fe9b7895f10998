"""The dialects of embedding, reranking, transcription, speech and moderation, against a server that misbehaves."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from core.errors import (
    InvalidInput,
    ModelyardError,
    UpstreamAuthentication,
    UpstreamBadRequest,
    UpstreamModelNotFound,
    UpstreamOverloaded,
    UpstreamPermission,
    UpstreamProtocol,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from core.model_types import ModelType, Usage
from core.model_types.moderation import Category, ModerationRequest
from core.model_types.rerank import Hit, RerankRequest
from core.model_types.speech2text import Audio, TranscriptionRequest
from core.model_types.text_embedding import EmbeddingPurpose, EmbeddingRequest
from core.model_types.tts import SpeechRequest
from core.provider import Call, Manifest, ModelCard, Provider, Value
from core.providers import openai, openai_compatible
from core.secret import Secret
from core.wire.http import Http
from tests import fake_tasks
from tests.fake_provider import SCENARIOS, FakeProvider, Scenario

KEY = "sk-test-0123456789abcdefghij"
AUDIO = Audio(content=b"RIFF....WAVEfmt " * 10, mime_type="audio/wav", filename='a "b".wav')
EMBED = EmbeddingRequest(texts=("one", "three", "seventeen"))
RERANK = RerankRequest(query="four", documents=("a", "four", "twenty"))
SPEAK = SpeechRequest(text="Hello there", voice="alloy", format="mp3")
MODERATE = ModerationRequest(text="I hate it")


def manifest(**options: Any) -> Manifest:
    return Manifest(
        name="p", label="", description="", model_types=(), methods=frozenset(), dialect="d", options=options
    )


@pytest.fixture
def compatible(http: Http) -> Provider:
    return openai_compatible.build(manifest(), http)


def call(provider: FakeProvider, model: str = "m", **more: Value) -> Call:
    card = ModelCard(name=model, label=model, type=ModelType.TEXT_EMBEDDING)
    return Call(model=model, card=card, values={"base_url": provider.url, "api_key": Secret(KEY), **more})


async def embed(of: Provider, made: Call, request: EmbeddingRequest = EMBED) -> Any:
    assert of.text_embedding is not None
    return await of.text_embedding.embed(made, request)


async def rerank(of: Provider, made: Call, request: RerankRequest = RERANK) -> Any:
    assert of.rerank is not None
    return await of.rerank.rerank(made, request)


async def transcribe(of: Provider, made: Call, **more: Any) -> Any:
    assert of.speech2text is not None
    return await of.speech2text.transcribe(made, TranscriptionRequest(audio=AUDIO, **more))


async def moderate(of: Provider, made: Call) -> Any:
    assert of.moderation is not None
    return await of.moderation.moderate(made, MODERATE)


async def speak(of: Provider, made: Call, request: SpeechRequest = SPEAK) -> bytes:
    assert of.tts is not None
    async with aclosing(of.tts.speak(made, request)) as sound:
        return b"".join([data async for data in sound if isinstance(data, bytes)])


EVERY: dict[str, Callable[[Provider, Call], Awaitable[Any]]] = {
    "embed": embed,
    "rerank": rerank,
    "transcribe": transcribe,
    "moderate": moderate,
    "speak": speak,
}
each = pytest.mark.parametrize("task", EVERY)


@pytest.mark.parametrize("base64", [False, True])
async def test_vectors_come_in_the_order_of_the_texts(base64: bool, provider: FakeProvider, http: Http) -> None:
    made = openai_compatible.build(manifest(base64_vectors=base64), http)

    found = await embed(made, call(provider))

    assert [list(vector) for vector in found.vectors] == [fake_tasks.vector(text) for text in EMBED.texts]
    assert found.usage == Usage(input_tokens=17)
    sent = provider.requests[-1]
    assert (sent.path, sent.key) == ("/v1/embeddings", KEY)
    assert sent.json == {
        "model": "m",
        "input": ["one", "three", "seventeen"],
        **({"encoding_format": "base64"} if base64 else {}),
    }


async def test_what_an_embedding_says_more_has_the_names_of_the_server(provider: FakeProvider, http: Http) -> None:
    options = {"dimensions_parameter": "output_dimension", "purpose_parameter": "input_type"}
    made = openai_compatible.build(manifest(**options), http)
    request = EmbeddingRequest(
        texts=("x",),
        dimensions=2,
        purpose=EmbeddingPurpose.QUERY,
        end_user="u",
        provider_options={"truncation": True},
    )

    found = await embed(made, call(provider), request)

    assert len(found.vectors[0]) == 2
    assert provider.requests[-1].json == {
        "model": "m", "input": ["x"], "output_dimension": 2, "input_type": "query", "user": "u", "truncation": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"data": []}',
        b'{"data": [{"embedding": [1.0]}]}',
        b'{"data": [{"embedding": [1]}, {"embedding": [1]}, {"embedding": [1, 2]}]}',
        b'{"data": [{"embedding": []}, {"embedding": []}, {"embedding": []}]}',
        b'{"data": [{"embedding": "AAA"}, {"embedding": [1]}, {"embedding": [1]}]}',
        b'{"data": [{"embedding": "AADAfw=="}, {"embedding": [1]}, {"embedding": [1]}]}',
        b'{"data": [{"embedding": ["x"]}, {"embedding": [1]}, {"embedding": [1]}]}',
        b'{"data": null}',
    ],
)
async def test_vectors_that_are_none_are_refused(body: bytes, provider: FakeProvider, compatible: Provider) -> None:
    provider.answers(body=body)

    with pytest.raises(UpstreamProtocol):
        await embed(compatible, call(provider))


async def test_vectors_of_another_size_than_asked_for_are_refused(provider: FakeProvider, compatible: Provider) -> None:
    provider.answers(body=b'{"data": [{"embedding": [1.0, 2.0]}]}')

    with pytest.raises(UpstreamProtocol, match="3 dimensions"):
        await embed(compatible, call(provider), EmbeddingRequest(texts=("x",), dimensions=3))


@pytest.mark.parametrize("style", ["jina", "tei"])
async def test_documents_are_scored(style: str, provider: FakeProvider, compatible: Provider) -> None:
    found = await rerank(compatible, call(provider, rerank_style=style))

    assert {hit.index: hit.score for hit in found.hits} == {0: 0.25, 1: 1.0, 2: 1 / 3}
    assert found.usage == (Usage(input_tokens=21) if style == "jina" else None)
    sent = provider.requests[-1]
    named = {"model": "m", "query": "four", "documents": ["a", "four", "twenty"]}
    assert (sent.path, sent.json) == (
        "/v1/rerank",
        named if style == "jina" else {"query": "four", "texts": ["a", "four", "twenty"]},
    )


@pytest.mark.parametrize(
    ("body", "hits", "usage"),
    [
        (b'{"data": [{"index": 1, "relevance_score": 0.5}]}', (Hit(1, 0.5),), None),
        (
            b'{"results": [{"index": 0, "relevance_score": -2.5, "document": {"text": "a"}}], '
            b'"meta": {"billed_units": {"search_units": 2}}}',
            (Hit(0, -2.5),),
            Usage(requests=2),
        ),
        (b'{"results": [], "meta": {"tokens": {"input_tokens": 9}}}', (), Usage(input_tokens=9)),
    ],
)
async def test_rankings_of_every_shape_are_read(
    body: bytes, hits: tuple[Hit, ...], usage: Usage | None, provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(body=body)

    found = await rerank(compatible, call(provider))

    assert (found.hits, found.usage) == (hits, usage)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"results": [{"index": 3, "relevance_score": 1}]}',
        b'{"results": [{"index": -1, "relevance_score": 1}]}',
        b'{"results": [{"index": 0, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]}',
        b'{"results": [{"index": 0}]}',
        b'{"results": [{"relevance_score": 1}]}',
    ],
)
async def test_rankings_that_are_none_are_refused(body: bytes, provider: FakeProvider, compatible: Provider) -> None:
    provider.answers(body=body)

    with pytest.raises(UpstreamProtocol):
        await rerank(compatible, call(provider))


async def test_a_recording_is_sent_as_a_form(provider: FakeProvider, compatible: Provider) -> None:
    options = {"temperature": 0.5, "timestamp_granularities": ["word", "segment"]}

    found = await transcribe(compatible, call(provider), language="en", provider_options=options)

    assert found.usage == Usage(seconds=3)
    assert found.text == f"a %22b%22.wav: {len(AUDIO.content)} bytes"
    sent = provider.requests[-1]
    assert sent.path == "/v1/audio/transcriptions"
    assert b'name="timestamp_granularities[]"\r\n\r\nsegment\r\n' in sent.body
    assert fake_tasks.form(sent) == {
        "model": "m",
        "response_format": "json",
        "language": "en",
        "temperature": "0.5",
        "timestamp_granularities[]": "segment",
        "file": ("a %22b%22.wav", "audio/wav", AUDIO.content),
    }


@pytest.mark.parametrize(
    ("body", "kind", "text", "usage"),
    [
        (b'{"text": ""}', "application/json", "", None),
        (b'{"text": "a", "duration": 1.5}', "application/json", "a", Usage(seconds=1.5)),
        (
            b'{"text": "a", "usage": {"type": "tokens", "input_tokens": 7, "output_tokens": 2, "total_tokens": 9}}',
            "application/json",
            "a",
            Usage(input_tokens=7, output_tokens=2),
        ),
        (b"1\n00:00 --> 00:01\nhi\n", "text/plain; charset=utf-8", "1\n00:00 --> 00:01\nhi\n", None),
    ],
)
async def test_words_of_every_shape_are_read(
    body: bytes, kind: str, text: str, usage: Usage | None, provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(body=body, content_type=kind)

    found = await transcribe(compatible, call(provider))

    assert (found.text, found.usage) == (text, usage)


async def test_speech_comes_while_it_is_made(provider: FakeProvider, compatible: Provider) -> None:
    provider.answers(pieces=3, ending="stall")
    assert compatible.tts is not None

    parts: list[bytes] = []
    async with aclosing(compatible.tts.speak(call(provider), SPEAK)) as sound:
        async for data in sound:
            assert isinstance(data, bytes)
            parts.append(data)
            if sum(map(len, parts)) == len("<alloy>Hello there"):
                break

    assert b"".join(parts) == b"<alloy>Hello there"
    assert provider.requests[-1].json == {
        "model": "m",
        "input": "Hello there",
        "voice": "alloy",
        "response_format": "mp3",
    }
    await asyncio.to_thread(provider.wait_until_quiet)


async def test_speech_needs_a_voice(provider: FakeProvider, compatible: Provider) -> None:
    with pytest.raises(InvalidInput) as raised:
        await speak(compatible, call(provider), SpeechRequest(text="x"))

    assert raised.value.path == ("voice",)
    assert provider.requests == []


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        (Scenario(body=b"", content_type="audio/mpeg"), UpstreamProtocol),
        (Scenario(body=b'{"error": {"message": "no"}}'), UpstreamUnavailable),
        (Scenario(body=b'{"error": {"message": "no", "code": "model_not_found"}}'), UpstreamModelNotFound),
        (Scenario(body=b"{}"), UpstreamProtocol),
        (Scenario(body=b"hello", content_type="text/plain"), UpstreamProtocol),
    ],
)
async def test_what_is_no_sound_is_not_passed_on(
    scenario: Scenario, error: type[ModelyardError], provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(scenario)

    with pytest.raises(error):
        await speak(compatible, call(provider))


async def test_a_verdict_has_its_categories(provider: FakeProvider, compatible: Provider) -> None:
    found = await moderate(compatible, call(provider))

    assert found.flagged is True
    assert len(found.categories) == 13
    assert found.categories["hate"] == Category(flagged=True, score=0.9)
    assert found.categories["violence"] == Category(flagged=False, score=0.001)
    assert provider.requests[-1].json == {"model": "m", "input": "I hate it"}


async def test_a_category_that_was_not_judged_has_no_score(provider: FakeProvider, compatible: Provider) -> None:
    result = {"flagged": False, "categories": {"illicit": None}, "category_scores": {}}
    provider.answers(Scenario(body=json.dumps({"results": [result]}).encode()))

    found = await moderate(compatible, call(provider))

    assert found.categories == {"illicit": Category(flagged=False, score=None)}


@each
@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("unauthorized", UpstreamAuthentication),
        ("forbidden", UpstreamPermission),
        ("not_found", UpstreamModelNotFound),
        ("bad_request", UpstreamBadRequest),
        ("rate_limited", UpstreamRateLimited),
        ("quota_exhausted", UpstreamQuotaExhausted),
        ("server_error", UpstreamUnavailable),
        ("overloaded", UpstreamOverloaded),
        ("busy", UpstreamOverloaded),
        ("redirect", UpstreamBadRequest),
        ("html", UpstreamProtocol),
        ("html_error", UpstreamUnavailable),
        ("json_error", UpstreamModelNotFound),
        ("cut", UpstreamProtocol),
        ("hangs_up", UpstreamUnavailable),
    ],
)
async def test_every_refusal_has_its_name_and_shows_no_key(
    task: str, scenario: str, error: type[ModelyardError], provider: FakeProvider, compatible: Provider
) -> None:
    provider.answers(scenario)

    with pytest.raises(error) as raised:
        await EVERY[task](compatible, call(provider))

    assert type(raised.value) is error
    assert KEY not in raised.value.message
    if scenario == "rate_limited":
        assert raised.value.retry_after == 7


@each
@pytest.mark.parametrize("name", ["model", "input", "query", "documents", "file", "stream", "stream_format"])
async def test_options_do_not_change_what_the_input_says(
    task: str, name: str, provider: FakeProvider, compatible: Provider
) -> None:
    """Each task refuses its own names; those of the others it passes on."""
    own = {
        "embed": {"model", "input"},
        "rerank": {"model", "query", "documents"},
        "transcribe": {"model", "file", "stream"},
        "moderate": {"model", "input"},
        "speak": {"model", "input", "stream_format"},
    }
    options = {name: "x"}
    asked: dict[str, Callable[[], Awaitable[Any]]] = {
        "embed": lambda: embed(compatible, call(provider), EmbeddingRequest(texts=("x",), provider_options=options)),
        "rerank": lambda: rerank(
            compatible, call(provider), RerankRequest(query="q", documents=("x",), provider_options=options)
        ),
        "transcribe": lambda: transcribe(compatible, call(provider), provider_options=options),
        "moderate": lambda: _moderated(compatible, call(provider), options),
        "speak": lambda: speak(
            compatible, call(provider), SpeechRequest(text="x", voice="v", provider_options=options)
        ),
    }
    if name not in own[task]:
        await asked[task]()
        assert provider.requests
        return

    with pytest.raises(InvalidInput) as raised:
        await asked[task]()

    assert raised.value.path == ("providerOptions", name)
    assert provider.requests == []


async def _moderated(of: Provider, made: Call, options: dict[str, Any]) -> None:
    assert of.moderation is not None
    await of.moderation.moderate(made, ModerationRequest(text="x", provider_options=options))


async def test_openai_sends_organization_and_project_and_takes_base64(provider: FakeProvider, http: Http) -> None:
    made = openai.build(manifest(), http)

    await embed(made, call(provider, organization="org-1", project="proj_1"))

    sent = provider.requests[-1]
    assert sent.json["encoding_format"] == "base64"
    assert (sent.headers["openai-organization"], sent.headers["openai-project"]) == ("org-1", "proj_1")


def test_every_scenario_that_is_a_refusal_is_tried_here() -> None:
    """A refusal that is added to the fake provider is to be added above, or named here with what holds it."""
    elsewhere = {"no_route", "context_too_long", "content_filtered", "rate_limited_silently", "wrong_type"}
    refusals = {name for name, scenario in SCENARIOS.items() if scenario.body is not None}

    assert refusals - elsewhere == {
        "unauthorized", "forbidden", "not_found", "bad_request", "rate_limited", "quota_exhausted", "server_error",
        "overloaded", "busy", "redirect", "html", "html_error", "json_error",
    }  # fmt: skip
    assert json.loads(SCENARIOS["json_error"].body or b"")["error"]
