"""The five model types besides language models through the translation, with the built-in provider."""

import base64
from typing import Any

import pytest

from graph import ids
from tests.graph.world import World, codes

RECORD = "invocation { status model { name type } usage { inputTokens characters seconds requests estimated } cost { amount } tags endUser attempts { error { code } } }"
ERRORS = "errors { code message path }"
EMBED = f"mutation ($input: EmbedInput!) {{ embed(input: $input) {{ embeddings {RECORD} {ERRORS} }} }}"
RERANK = (
    f"mutation ($input: RerankInput!) {{ rerank(input: $input) {{ hits {{ index score text }} {RECORD} {ERRORS} }} }}"
)
TRANSCRIBE = f"mutation ($input: TranscribeInput!) {{ transcribe(input: $input) {{ text {RECORD} {ERRORS} }} }}"
MODERATE = f"mutation ($input: ModerateInput!) {{ moderate(input: $input) {{ flagged categories {RECORD} {ERRORS} }} }}"
SPEECH = """subscription ($input: SpeechInput!) { speech(input: $input) { __typename
  ... on SpeechStarted { invocationId sequence model { provider name type } }
  ... on SpeechChunk { invocationId sequence audio mimeType }
  ... on SpeechFinished { invocationId sequence used: usage { characters } cost { amount } invocation { status timeToFirstToken } }
  ... on SpeechFailed { maybeId: invocationId sequence error { code message path } }
} }"""
COUNT = "{ workspace { invocations { totalCount } } }"


def echo(kind: str, **given: Any) -> dict[str, Any]:
    return {"model": {"provider": "echo", "name": f"echo-{kind}"}, **given}


async def heard(world: World, principal: str, **given: Any) -> list[Any]:
    found = [payload async for payload in world.events(principal, SPEECH, input=given)]
    assert all("errors" not in payload for payload in found), found
    return [payload["data"]["speech"] for payload in found]


def sound_of(events: list[Any]) -> bytes:
    return b"".join(base64.b64decode(event["audio"]) for event in events if event["__typename"] == "SpeechChunk")


async def recorded(world: World) -> int:
    found = await world.data("owner", COUNT)
    count: int = found["workspace"]["invocations"]["totalCount"]
    return count


async def test_texts_become_vectors_in_their_order(world: World) -> None:
    texts = [f"the word number {number}" for number in range(150)]

    payload = await world.change(
        "member", EMBED, **echo("embedding", texts=texts, tags=[{"name": "a", "value": "b"}], endUser="me")
    )
    alone = await world.change("member", EMBED, **echo("embedding", texts=[texts[149]], dimensions=64))

    assert len(payload["embeddings"]) == 150
    assert payload["embeddings"][149] == alone["embeddings"][0]
    assert len(alone["embeddings"][0]) == 64
    record = payload["invocation"]
    assert record["status"] == "SUCCEEDED"
    assert record["model"] == {"name": "echo-embedding", "type": "TEXT_EMBEDDING"}
    assert record["usage"] == {
        "inputTokens": 600,
        "characters": 0,
        "seconds": 0,
        "requests": 3,
        "estimated": False,
    }
    assert (record["cost"], record["tags"], record["endUser"]) == ({"amount": "0"}, {"a": "b"}, "me")
    assert record["attempts"] == [{"error": None}]


async def test_documents_are_ordered_cut_and_named(world: World) -> None:
    documents = ["a cat", "a blue whale sings", "the blue sky"]
    given = echo("rerank", query="blue whale", documents=documents)

    every = await world.change("member", RERANK, **given)
    best = await world.change("member", RERANK, **given, topN=1)
    good = await world.change("member", RERANK, **given, scoreThreshold=0.5)

    assert every["hits"] == [
        {"index": 1, "score": 1, "text": documents[1]},
        {"index": 2, "score": 0.5, "text": documents[2]},
        {"index": 0, "score": 0, "text": documents[0]},
    ]
    assert [hit["index"] for hit in best["hits"]] == [1]
    assert [hit["index"] for hit in good["hits"]] == [1, 2]


async def test_speech_is_streamed_and_written_down_again(world: World) -> None:
    events = await heard(world, "member", **echo("speech", text="three words here"))

    kinds = [event["__typename"] for event in events]
    assert kinds == ["SpeechStarted", "SpeechChunk", "SpeechChunk", "SpeechChunk", "SpeechChunk", "SpeechFinished"]
    assert [event["sequence"] for event in events] == list(range(6))
    assert events[0]["model"] == {"provider": "echo", "name": "echo-speech", "type": "TTS"}
    assert {event["mimeType"] for event in events[1:-1]} == {"audio/wav"}
    assert events[-1]["used"] == {"characters": 16}
    assert events[-1]["invocation"]["status"] == "SUCCEEDED"
    assert events[-1]["invocation"]["timeToFirstToken"] is not None
    audio = {"base64": base64.b64encode(sound_of(events)).decode(), "mimeType": "audio/wav"}

    payload = await world.change("member", TRANSCRIBE, **echo("transcription", audio=audio, language="en"))

    assert payload["text"] == "I heard 0.3 seconds of audio/wav."
    assert payload["invocation"]["usage"]["seconds"] == 0.3


async def test_a_text_is_judged(world: World) -> None:
    good = await world.change("member", MODERATE, **echo("moderation", text="good morning"))
    bad = await world.change("member", MODERATE, **echo("moderation", text="a harmful text"))

    assert (good["flagged"], bad["flagged"]) == (False, True)
    assert bad["categories"] == {"said_so": {"flagged": True, "score": 1}}
    assert good["invocation"]["usage"]["inputTokens"] == 2


BUDGET = """mutation ($input: CreateApiTokenInput!) { createApiToken(input: $input) { secret errors { code } } }"""
COMPLETE = f"mutation ($input: CompletionInput!) {{ complete(input: $input) {{ {RECORD} {ERRORS} }} }}"


async def test_what_costs_nothing_is_called_under_a_budget_of_any_currency(world: World) -> None:
    """A newcomer's first calls, where the operator has set a budget: echo is free, and says so."""
    budget = {"limit": "0.01", "currency": "EUR", "period": "DAY"}
    made = await world.change("owner", BUDGET, name="thrifty", role="MEMBER", budget=budget)
    world.know("thrifty", made["secret"])
    user = {"role": "USER", "content": [{"text": "hi"}]}

    spoken = await heard(world, "thrifty", **echo("speech", text="three words here"))
    audio = {"base64": base64.b64encode(sound_of(spoken)).decode(), "mimeType": "audio/wav"}
    payloads = [
        await world.change("thrifty", COMPLETE, model={"provider": "echo", "name": name}, messages=[user])
        for name in ("echo", "echo-reasoning")
    ]
    payloads += [
        await world.change("thrifty", EMBED, **echo("embedding", texts=["x"])),
        await world.change("thrifty", RERANK, **echo("rerank", query="q", documents=["x"])),
        await world.change("thrifty", TRANSCRIBE, **echo("transcription", audio=audio)),
        await world.change("thrifty", MODERATE, **echo("moderation", text="good")),
    ]

    assert spoken[-1]["cost"] == {"amount": "0"}
    assert [payload["invocation"]["cost"] for payload in payloads] == [{"amount": "0"}] * 6


WAV = base64.b64encode(b"RIFF\0\0\0\0WAVEfmt ").decode()


@pytest.mark.parametrize(
    ("query", "given", "code", "path"),
    [
        (EMBED, echo("embedding", texts=[]), "INVALID_INPUT", ["texts"]),
        (EMBED, echo("embedding", texts=["x"] * 2049), "INVALID_INPUT", ["texts"]),
        (EMBED, echo("embedding", texts=["x", " "]), "INVALID_INPUT", ["texts", "1"]),
        (EMBED, echo("embedding", texts=["x"], dimensions=0), "INVALID_INPUT", ["dimensions"]),
        (EMBED, echo("embedding", texts=["x"], dimensions=65), "CAPABILITY_UNSUPPORTED", ["dimensions"]),
        (EMBED, echo("embedding", texts=["x"], providerOptions=[1]), "INVALID_INPUT", ["providerOptions"]),
        (EMBED, echo("embedding", texts=["x"], endUser=""), "INVALID_INPUT", ["endUser"]),
        (EMBED, echo("rerank", texts=["x"]), "MODEL_TYPE_MISMATCH", ["model"]),
        (EMBED, echo("nothing", texts=["x"]), "MODEL_NOT_FOUND", ["model", "name"]),
        (EMBED, {"texts": ["x"]}, "MODEL_NOT_FOUND", []),
        (EMBED, echo("embedding", texts=["x"], workspaceId="garbage"), "NOT_FOUND", ["workspaceId"]),
        (EMBED, echo("embedding", texts=["x"], credentialId="garbage"), "NOT_FOUND", ["credentialId"]),
        (RERANK, echo("rerank", query="q", documents=[]), "INVALID_INPUT", ["documents"]),
        (RERANK, echo("rerank", query="", documents=["x"]), "INVALID_INPUT", ["query"]),
        (RERANK, echo("rerank", query="q", documents=["x", ""]), "INVALID_INPUT", ["documents", "1"]),
        (RERANK, echo("rerank", query="q", documents=["x"], topN=0), "INVALID_INPUT", ["topN"]),
        (RERANK, echo("rerank", query="q", documents=["x"] * 1001), "INVALID_INPUT", ["documents"]),
        (TRANSCRIBE, echo("transcription", audio={}), "INVALID_INPUT", ["audio"]),
        (TRANSCRIBE, echo("transcription", audio={"base64": WAV}), "INVALID_INPUT", ["audio", "mimeType"]),
        (
            TRANSCRIBE,
            echo("transcription", audio={"base64": "bm8gYXVkaW8=", "mimeType": "audio/wav"}),
            "INVALID_INPUT",
            ["audio", "base64"],
        ),
        (TRANSCRIBE, echo("transcription", audio={"url": "ftp://x"}), "INVALID_INPUT", ["audio", "url"]),
        (TRANSCRIBE, echo("transcription", audio={"url": "http://127.0.0.1/a.wav"}), "INVALID_INPUT", ["audio", "url"]),
        (TRANSCRIBE, echo("transcription", audio={"url": "http://127.0.0.1:9/a"}), "INVALID_INPUT", ["audio", "url"]),
        (
            TRANSCRIBE,
            echo("transcription", audio={"base64": WAV, "mimeType": "audio/wav"}, language="english please"),
            "INVALID_INPUT",
            ["language"],
        ),
        (MODERATE, echo("moderation", text="\n"), "INVALID_INPUT", ["text"]),
    ],
)
async def test_bad_input_is_refused_by_name_before_anything_is_called(
    world: World, query: str, given: dict[str, Any], code: str, path: list[str]
) -> None:
    error = await world.refused("member", query, **given)

    assert (error["code"], error["path"]) == (code, path)
    assert await recorded(world) == 0


@pytest.mark.parametrize(
    ("given", "code", "path"),
    [
        (echo("speech", text=""), "INVALID_INPUT", ["text"]),
        (echo("speech", text="x", voice="nobody"), "INVALID_INPUT", ["voice"]),
        (echo("speech", text="x", format="mp3"), "INVALID_INPUT", ["format"]),
        (echo("embedding", text="x"), "MODEL_TYPE_MISMATCH", ["model"]),
        ({"text": "x"}, "MODEL_NOT_FOUND", []),
    ],
)
async def test_refused_speech_is_one_event_without_an_invocation(
    world: World, given: dict[str, Any], code: str, path: list[str]
) -> None:
    (event,) = await heard(world, "member", **given)

    assert (event["__typename"], event["sequence"], event["maybeId"]) == ("SpeechFailed", 0, None)
    assert (event["error"]["code"], event["error"]["path"]) == (code, path)
    assert await recorded(world) == 0


async def test_a_foreign_workspace_is_as_unknown_as_one_that_never_was(world: World) -> None:
    foreign = echo("embedding", texts=["x"], workspaceId=ids.encode("Workspace", world.home.id))
    unknown = echo("embedding", texts=["x"], workspaceId=ids.encode("Workspace", "0" * 32))

    assert await world.refused("stranger", EMBED, **foreign) == await world.refused("stranger", EMBED, **unknown)


async def test_a_document_makes_at_most_one_call_of_any_type(world: World) -> None:
    query = """mutation ($a: EmbedInput!, $b: ModerateInput!) {
      embed(input: $a) { embeddings } moderate(input: $b) { flagged } }"""

    answer = await world.ask("member", query, a=echo("embedding", texts=["x"]), b=echo("moderation", text="x"))

    assert [code for _, code in codes(answer)] == ["OPERATION_TOO_LARGE"]
    assert await recorded(world) == 0


async def test_the_default_of_the_type_serves_a_call_that_names_no_model(world: World) -> None:
    await world.change(
        "owner",
        "mutation ($input: SetDefaultModelsInput!) { setDefaultModels(input: $input) { errors { code message } } }",
        defaults=[{"type": "MODERATION", "model": {"provider": "echo", "name": "echo-moderation"}}],
    )

    payload = await world.change("member", MODERATE, text="harmful")

    assert payload["flagged"] is True


VOICES = """query ($language: String) { workspace { models(provider: "echo", first: 50) {
  nodes { type voices(language: $language) { id name languages } } } } }"""


async def test_the_voices_of_a_model_are_listed_and_of_others_nobody_knows(world: World) -> None:
    found = await world.data("member", VOICES, language="en")
    unconfigured = await world.data(
        "member", '{ workspace { models(provider: "elevenlabs", type: TTS, first: 1) { nodes { voices { id } } } } }'
    )

    voices = {node["type"]: node["voices"] for node in found["workspace"]["models"]["nodes"]}
    assert voices.pop("TTS") == [{"id": "tone", "name": "Tone", "languages": []}]
    assert set(voices.values()) == {None}
    assert unconfigured["workspace"]["models"]["nodes"] == [{"voices": None}]
