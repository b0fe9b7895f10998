"""Embedding, reranking, transcription, speech and moderation as their caller sees them, with a real server between."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from tests import fake_tasks
from tests.fake_provider import FakeProvider, Scenario
from tests.product import ADD_MODEL, INVOCATIONS, LLM, Product, model
from tests.waiting import LIMIT_S

RECORD = """invocation { status attempts { error { code } } cost { amount }
  usage { inputTokens outputTokens characters seconds requests estimated } } errors { code message path retryable retryAfter }"""
EMBED = f"mutation ($input: EmbedInput!) {{ embed(input: $input) {{ embeddings {RECORD} }} }}"
RERANK = f"mutation ($input: RerankInput!) {{ rerank(input: $input) {{ hits {{ index score text }} {RECORD} }} }}"
TRANSCRIBE = f"mutation ($input: TranscribeInput!) {{ transcribe(input: $input) {{ text {RECORD} }} }}"
MODERATE = f"mutation ($input: ModerateInput!) {{ moderate(input: $input) {{ flagged categories {RECORD} }} }}"
SPEECH = """subscription ($input: SpeechInput!) { speech(input: $input) { __typename
  ... on SpeechStarted { invocationId sequence }
  ... on SpeechChunk { sequence audio mimeType }
  ... on SpeechFinished { sequence usage { characters estimated } cost { amount } invocation { status } }
  ... on SpeechFailed { sequence error { code message } }
} }"""
CANCEL = "mutation ($input: CancelInvocationInput!) { cancelInvocation(input: $input) { invocation { status } errors { code } } }"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data" + b"\0" * 16_004
AUDIO = {"base64": base64.b64encode(WAV).decode(), "mimeType": "audio/wav", "filename": "talk.wav"}


async def add(product: Product, provider: FakeProvider, kind: str, name: str = "m", **more: str) -> dict[str, str]:
    """Add a model of a type; return how calls name it."""
    values = {"base_url": provider.url, "api_key": "sk-test-0123456789abcdef", **more}
    await product.changed(
        ADD_MODEL,
        model={"provider": LLM, "name": name, "type": kind},
        credential={"new": {"values": [{"field": field, "value": value} for field, value in values.items()]}},
    )
    provider.requests.clear()
    return model(name)


async def refused(product: Product, query: str, /, **given: Any) -> tuple[Any, Any]:
    """Return the only error of a call that failed, and its record."""
    (payload,) = (await product.data(query, input=given)).values()
    (error,) = payload["errors"]
    return error, payload["invocation"]


async def heard(product: Product, **given: Any) -> AsyncGenerator[Any, None]:
    """Yield the events of speech over a socket, which closes with the generator."""
    async with product.socket() as ws:
        payload = {"query": SPEECH, "variables": {"input": given}}
        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        async for text in ws:
            message = json.loads(text)
            if message["type"] != "next":
                assert message["type"] == "complete", message
                return
            assert "errors" not in message["payload"], message
            yield message["payload"]["data"]["speech"]


async def test_texts_are_embedded_in_as_many_requests_as_the_server_needs(
    product: Product, provider: FakeProvider
) -> None:
    named = await add(product, provider, "TEXT_EMBEDDING", max_texts="3")
    texts = ["x" * (number + 1) for number in range(10)]

    payload = await product.changed(EMBED, model=named, texts=texts, purpose="DOCUMENT")

    assert payload["embeddings"] == [fake_tasks.vector(text) for text in texts]
    assert sorted(len(request.json["input"]) for request in provider.requests) == [1, 3, 3, 3]
    assert payload["invocation"]["usage"]["inputTokens"] == sum(range(1, 11))
    assert payload["invocation"]["usage"]["requests"] == 4
    assert payload["invocation"]["status"] == "SUCCEEDED"


async def test_what_was_embedded_before_a_failure_is_recorded(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "TEXT_EMBEDDING", max_texts="1")
    provider.answers_after(1, "rate_limited")

    error, record = await refused(product, EMBED, model=named, texts=["abc"] * 9)

    assert (error["code"], error["retryAfter"]) == ("UPSTREAM_RATE_LIMITED", 7)
    assert record["status"] == "FAILED"
    assert [attempt["error"]["code"] for attempt in record["attempts"]] == ["UPSTREAM_RATE_LIMITED"]
    assert record["usage"]["inputTokens"] == 3
    assert record["usage"]["requests"] == 1


async def test_documents_are_ranked(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "RERANK", rerank_style="tei")

    payload = await product.changed(
        RERANK, model=named, query="four", documents=["a", "four", "twenty"], topN=2, scoreThreshold=0.3
    )

    assert payload["hits"] == [
        {"index": 1, "score": 1, "text": "four"},
        {"index": 2, "score": 1 / 3, "text": "twenty"},
    ]
    assert payload["invocation"]["usage"]["estimated"] is True


async def test_a_recording_is_written_down_from_bytes_and_from_an_address(
    product: Product, provider: FakeProvider
) -> None:
    named = await add(product, provider, "SPEECH2TEXT")
    provider.answers_at("/files/talk", Scenario(body=WAV, content_type="application/octet-stream"))

    given = await product.changed(TRANSCRIBE, model=named, audio=AUDIO, language="en")
    fetched = await product.changed(TRANSCRIBE, model=named, audio={"url": f"http://{provider.address}/files/talk"})

    assert given["text"] == fetched["text"] == f"talk.wav: {len(WAV)} bytes"
    assert given["invocation"]["usage"]["seconds"] == 3
    file = provider.requests[1]
    assert (file.method, file.path, file.key) == ("GET", "/files/talk", "")


async def test_a_long_recording_is_taken_of_those_who_have_a_token(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "SPEECH2TEXT")
    recording = WAV + b"\0" * 3_000_000
    audio = AUDIO | {"base64": base64.b64encode(recording).decode()}
    body = {"query": TRANSCRIBE, "variables": {"input": {"model": named, "audio": audio}}}

    taken = await product.post(body)
    unknown = await product.post(body, token="my_0000000000000000000000000000000000000000000")
    anonymous = await product.post(body, token="")
    huge = await product.post(b'{"query": "' + b" " * 30_000_000 + b'"}')

    assert taken.json()["data"]["transcribe"]["text"] == f"talk.wav: {len(recording)} bytes"
    assert (anonymous.status_code, huge.status_code) == (413, 413)
    assert unknown.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(status=404, body=b"no"),
        Scenario(status=307, headers={"location": "http://127.0.0.1:1/"}, body=b""),
        Scenario(body=b"<html>no audio</html>", content_type="audio/wav"),
        Scenario(hangs_up=True),
        Scenario(body=WAV + b"\0" * 26 * 1024 * 1024),
    ],
)
async def test_an_address_without_audio_is_refused_before_the_model_is_called(
    product: Product, provider: FakeProvider, scenario: Scenario
) -> None:
    named = await add(product, provider, "SPEECH2TEXT")
    provider.answers_at("/talk.wav", scenario)

    error, record = await refused(
        product, TRANSCRIBE, model=named, audio={"url": f"http://{provider.address}/talk.wav"}
    )

    assert (error["code"], error["path"], record) == ("INVALID_INPUT", ["audio", "url"], None)
    assert {request.path for request in provider.requests} == {"/talk.wav"}


async def test_usage_that_nobody_reports_is_counted_here(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "SPEECH2TEXT")
    provider.answers("no_usage")

    payload = await product.changed(TRANSCRIBE, model=named, audio=AUDIO)

    assert payload["invocation"]["usage"]["estimated"] is True
    assert payload["invocation"]["usage"]["seconds"] == 1.0


async def test_a_verdict_comes_with_its_categories(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "MODERATION")

    payload = await product.changed(MODERATE, model=named, text="hate")

    assert payload["flagged"] is True
    assert payload["categories"]["hate"] == {"flagged": True, "score": 0.9}


async def test_speech_is_streamed_as_it_is_made(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "TTS", voice="alloy")
    provider.answers(pieces=4, delay_s=0.02)

    events = [event async for event in heard(product, model=named, text="Hello there", format="opus")]

    kinds = [event["__typename"] for event in events]
    assert kinds[0] == "SpeechStarted"
    assert kinds[-1] == "SpeechFinished"
    assert len(kinds) >= 4
    assert [event["sequence"] for event in events] == list(range(len(events)))
    chunks = [event for event in events if event["__typename"] == "SpeechChunk"]
    assert b"".join(base64.b64decode(chunk["audio"]) for chunk in chunks) == b"<alloy>Hello there"
    assert {chunk["mimeType"] for chunk in chunks} == {"audio/ogg"}
    assert events[-1]["usage"] == {"characters": 11, "estimated": False}
    assert events[-1]["cost"] is None
    assert events[-1]["invocation"]["status"] == "SUCCEEDED"


async def test_leaving_ends_the_call_at_the_provider(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "TTS", voice="alloy")
    provider.answers(ending="stall")

    async with aclosing(heard(product, model=named, text="Hello there")) as events:
        async for event in events:
            if event["__typename"] == "SpeechChunk":
                break

    await asyncio.to_thread(provider.wait_until_quiet)
    assert await status_of(product) == "CANCELLED"


async def test_cancelling_ends_speech_with_its_reason(product: Product, provider: FakeProvider) -> None:
    named = await add(product, provider, "TTS", voice="alloy")
    provider.answers(ending="stall")
    events = []

    async for event in heard(product, model=named, text="Hello there"):
        events.append(event)
        if event["__typename"] == "SpeechChunk" and len(events) == 2:
            answer = await product.changed(CANCEL, id=events[0]["invocationId"])
            assert answer["invocation"]["status"] == "CANCELLED"

    assert events[-1]["error"]["code"] == "CANCELLED"
    await asyncio.to_thread(provider.wait_until_quiet)


@pytest.mark.parametrize(
    ("scenario", "code", "chunks"),
    [
        ("cut", "UPSTREAM_PROTOCOL", True),
        ("unauthorized", "UPSTREAM_AUTHENTICATION", False),
        ("html", "UPSTREAM_PROTOCOL", False),
    ],
)
async def test_speech_that_fails_ends_once(
    product: Product, provider: FakeProvider, scenario: str, code: str, chunks: bool
) -> None:
    await check_failure(product, provider, scenario, code, chunks=chunks)


@pytest.mark.parametrize("first_byte_s", ["1"])
async def test_speech_that_does_not_begin_in_time_ends_once(product: Product, provider: FakeProvider) -> None:
    await check_failure(product, provider, "silent", "UPSTREAM_TIMEOUT", chunks=False)


@pytest.mark.parametrize("idle_s", ["1"])
async def test_speech_that_does_not_go_on_in_time_ends_once(product: Product, provider: FakeProvider) -> None:
    await check_failure(product, provider, "stall", "UPSTREAM_TIMEOUT", chunks=True)


async def check_failure(product: Product, provider: FakeProvider, scenario: str, code: str, *, chunks: bool) -> None:
    """Check that speech of this scenario ends once by this code."""
    named = await add(product, provider, "TTS", voice="alloy")
    provider.answers(scenario)

    events = [event async for event in heard(product, model=named, text="Hello there")]

    kinds = [event["__typename"] for event in events]
    assert kinds[-1] == "SpeechFailed"
    assert kinds.count("SpeechFailed") == 1
    assert ("SpeechChunk" in kinds) is chunks
    assert events[-1]["error"]["code"] == code
    assert await status_of(product) == "FAILED"


async def test_a_slow_reader_slows_the_provider_and_loses_nothing(product: Product, provider: FakeProvider) -> None:
    """What waits for a reader who does not read is bounded: the server itself holds no more than a few chunks."""
    from core.asking import Asked
    from core.model_types.tts import SpeechChunk, SpeechRequest
    from core.plan import ModelReference
    from core.speech import speak
    from core.speech_owner import CHUNK_BYTES, CHUNKS_AHEAD

    named = await add(product, provider, "TTS", voice="alloy")
    sent = 3_600_000
    provider.answers(Scenario(body=b"\xff" * sent, content_type="audio/mpeg"))
    async with product.app.storage.read() as tx:
        (workspace,) = (await tx.workspaces.page(_first(), among=None, search=None)).items
    viewer = await _viewer(product)
    asked = Asked(workspace_id=workspace.id, model=ModelReference(**named))

    events = speak(product.app, viewer, asked, SpeechRequest(text="x"))
    await anext(events)
    first = await anext(events)
    await asyncio.sleep(0.2)
    (owned,) = product.app.running.all()
    waiting = owned.stream._queue.qsize()  # type: ignore[attr-defined]
    rest = [event async for event in events]

    assert isinstance(first, SpeechChunk)
    assert waiting <= CHUNKS_AHEAD + 1
    chunks = [first, *(event for event in rest if isinstance(event, SpeechChunk))]
    assert sum(len(chunk.audio) for chunk in chunks) == sent
    assert max(len(chunk.audio) for chunk in chunks) <= CHUNK_BYTES


def _first() -> Any:
    from core.ports.paging import PageRequest

    return PageRequest(limit=2)


async def _viewer(product: Product) -> Any:
    from core.secret import hash_secret

    viewer = await product.app.identity.viewer(hash_secret(product.token))
    assert viewer is not None
    return viewer


async def status_of(product: Product) -> str:
    """Return the status of the newest call once it has ended."""
    deadline = asyncio.get_running_loop().time() + LIMIT_S
    while True:
        record = (await product.data(INVOCATIONS))["workspace"]["invocations"]["nodes"][0]
        if record["status"] != "RUNNING" or asyncio.get_running_loop().time() > deadline:
            status: str = record["status"]
            return status
        await asyncio.sleep(0.02)


COMPLETE = "mutation ($input: CompletionInput!) { complete(input: $input) { message { text } invocation { cost { amount currency } } errors { code message } } }"


async def test_a_deployment_of_azure_has_the_limits_and_the_price_of_its_base_model(
    product: Product, provider: FakeProvider
) -> None:
    values = {
        "endpoint": f"http://{provider.address}",
        "deployment": "mine",
        "base_model": "gpt-4o",
        "auth": "key",
        "api_key": "0123456789abcdef0123456789abcdef",
    }
    azure = {"provider": "azure", "name": "mine", "type": "LLM"}

    async def add_azure(**changed: str) -> Any:
        given = [{"field": field, "value": value} for field, value in (values | changed).items()]
        data = await product.data(ADD_MODEL, input={"model": azure, "credential": {"new": {"values": given}}})
        return data["addModel"]

    pasted = await add_azure(endpoint=f"http://{provider.address}/openai/deployments/mine")
    wrong = await add_azure(base_model="text-embedding-3-small")
    added = await add_azure()
    asked = {"model": {"provider": "azure_openai", "name": "mine"}, "messages": [{"role": "USER", "text": "hi"}]}
    answered = await product.changed(COMPLETE, **asked)

    assert [error["code"] for error in pasted["errors"]] == ["INVALID_INPUT"]
    assert "enter" in pasted["errors"][0]["message"].lower()
    assert [error["path"][-1] for error in wrong["errors"]] == ["base_model"]
    assert added["errors"] == []
    assert answered["message"]["text"] == "Hello from the fake provider."
    assert answered["invocation"]["cost"]["currency"] == "USD"
    assert float(answered["invocation"]["cost"]["amount"]) > 0


CREATE = "mutation ($input: CreateCredentialInput!) { createCredential(input: $input) { credential { status } errors { code message } } }"
VOICES = """query ($language: String) { workspace { models(provider: "elevenlabs", type: TTS, first: 1) {
  nodes { name voices(language: $language) { id name languages } } } } }"""


async def test_the_voices_of_an_account_speak_at_the_price_of_its_characters(
    product: Product, provider: FakeProvider
) -> None:
    values = {"api_key": "sk_0123456789abcdef0123456789abcdef", "base_url": f"http://{provider.address}"}
    made = await product.changed(
        CREATE, provider="elevenlabs", values=[{"field": field, "value": value} for field, value in values.items()]
    )

    every = await product.data(VOICES)
    french = await product.data(VOICES, language="fr-CA")
    german = await product.data(VOICES, language="de")
    spoken = model("eleven_v4", "elevenlabs")
    events = [event async for event in heard(product, model=spoken, text="Hello there", voice="v1")]

    def ids(found: Any) -> list[str]:
        return [voice["id"] for voice in found["workspace"]["models"]["nodes"][0]["voices"]]

    assert made["credential"]["status"] == "VALID"
    assert (ids(every), ids(french), ids(german)) == (["v1", "v2"], ["v1", "v2"], ["v2"])
    assert events[-1]["__typename"] == "SpeechFinished"
    assert events[-1]["usage"]["characters"] == 11
    assert events[-1]["cost"] == {"amount": "0.00088"}
    assert {event["mimeType"] for event in events if event["__typename"] == "SpeechChunk"} == {"audio/mpeg"}
