"""Published vocabularies: what they count is what their merges make of a text, and no hold falls below it."""

import base64
import functools
import gzip
import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.counting import OutputCount, estimate_usage, estimated_input, input_upper_bound
from core.model_types.llm import ChatRequest, Media, MediaKind, Message, Role, Text, TextPiece
from core.vocabularies import LARGEST, NAMES, vocabulary
from tests import make
from tests.catalogs import CATALOG

WEIRD = st.sampled_from([
    "👩‍👩‍👧", "🏳️‍🌈", "e\u0301", "\u202e", "\ufeff", "\x00", "\u200d", "ﷺ", "𒐫", "ไทย", "नमस्ते", "漢字", "\U0010ffff",
    "<|endoftext|>", "<|im_start|>", "   ", "\r\n", "\t\t", "'s", "'LL", "1234567", "a" * 40, '{"id": "0f"}', "\u0130",
])  # fmt: skip
TEXTS = st.lists(st.text(max_size=20) | WEIRD, max_size=20).map("".join)
every_vocabulary = pytest.mark.parametrize("name", sorted(NAMES))


@every_vocabulary
@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_a_text_has_the_tokens_that_merging_by_rank_gives(name: str, text: str) -> None:
    known: Any = vocabulary(name)

    pieces = known.pretokenize(text)

    assert "".join(pieces) == text
    assert known.count(text) == sum(len(merged(piece.encode(), ranks(name))) for piece in pieces)


@every_vocabulary
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_bound_by_a_vocabulary_is_below_that_by_bytes_and_above_the_truth(name: str, texts: list[str]) -> None:
    request = ChatRequest(messages=tuple(Message(role=Role.USER, content=(Text(text=text),)) for text in texts))

    bound = input_upper_bound(request, name)

    known = vocabulary(name)
    assert known is not None
    template = 3 + 4 * len(texts)  # what chat templates of OpenAI put before, between and after
    assert sum(map(known.count, texts)) + template <= bound <= input_upper_bound(request)
    assert estimated_input(request, name) <= bound


@every_vocabulary
@given(text=TEXTS, cuts=st.lists(st.integers(min_value=1, max_value=60), max_size=40), every=st.booleans())
@settings(max_examples=150, deadline=None)
def test_output_is_never_below_its_tokens_however_it_is_cut(name: str, text: str, cuts: list[int], every: bool) -> None:
    output, begin, known = OutputCount(name, None), 0, vocabulary(name)
    assert known is not None

    for size in [*cuts, len(text)]:
        output.add([TextPiece(text[begin : begin + size])])
        begin += size
        if every:
            output.counted()
        assert known.count(text[:begin]) <= output.most

    assert known.count(text) <= output.counted() <= len(text.encode()) + 16


def test_long_output_is_held_for_as_what_it_is() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 1000
    output, known = OutputCount("o200k_base", None), vocabulary("o200k_base")
    assert known is not None

    for start in range(0, len(text), 4):
        output.add([TextPiece(text[start : start + 4])])

    assert known.count(text) <= output.counted() <= 1.1 * known.count(text)
    assert output.most == output.counted()


def test_english_is_held_for_as_what_it_is() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 100

    by_bytes, by_words = (input_upper_bound(make.chat(text), name) for name in (None, "o200k_base"))

    assert by_bytes - len(text) == by_words - 1001
    assert estimated_input(make.chat(text), "o200k_base") == 1005
    assert estimate_usage(make.chat("hi"), text, "o200k_base").output_tokens == 1001


@pytest.mark.parametrize(
    "content",
    [
        (Text(text="One. "), Text(text="Two. ")),  # joined to a text of its own
        (Text(text="a\ud800b"),),  # no vocabulary has halves of characters
        (Text(text="word " * (LARGEST // 5)), Media(kind=MediaKind.IMAGE, url="https://host/a.png"), Text(text="more")),
    ],
)
def test_what_a_vocabulary_does_not_tell_counts_by_its_bytes(content: tuple[Text | Media, ...]) -> None:
    request = ChatRequest(messages=(Message(role=Role.USER, content=content),))

    assert input_upper_bound(request, "o200k_base") == input_upper_bound(request)


def test_a_large_input_counts_by_its_bytes() -> None:
    request = make.chat("word " * (LARGEST // 5 + 1))

    assert input_upper_bound(request, "o200k_base") == input_upper_bound(request)
    assert estimated_input(request, "o200k_base") == estimated_input(request)
    assert estimate_usage(make.chat("hi"), "x" * (LARGEST + 4), "o200k_base").output_tokens == LARGEST // 4 + 1


def test_an_unknown_vocabulary_counts_by_bytes() -> None:
    assert vocabulary("gpt2") is None
    assert input_upper_bound(make.chat("word " * 9), "gpt2") == input_upper_bound(make.chat("word " * 9))


def test_every_vocabulary_that_a_manifest_names_is_there() -> None:
    cards = [card for manifest in CATALOG.manifests() for card in (*manifest.models, *manifest.base_models)]

    named = {card.name: card.vocabulary for card in cards if card.vocabulary is not None}

    assert named["gpt-4.1"] == named["gpt-5.4"] == "o200k_base"
    assert named["gpt-3.5-turbo"] == "cl100k_base"
    assert set(named.values()) <= NAMES


def test_nothing_is_loaded_before_it_is_needed() -> None:
    told = "import sys, core.counting; print([name for name in sys.modules if 'bpe' in name])"

    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


@functools.cache
def ranks(name: str) -> Mapping[bytes, int]:
    package = importlib.util.find_spec("bpe_openai")
    assert package is not None
    assert package.origin is not None
    lines = gzip.decompress((Path(package.origin).parent / "data" / f"{name}.tiktoken.gz").read_bytes()).split(b"\n")
    return {base64.b64decode(token): int(rank) for token, _, rank in (line.partition(b" ") for line in lines if line)}


def merged(piece: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Merge bytes by their ranks, the lowest first: the textbook's way."""
    parts = [piece[place : place + 1] for place in range(len(piece))]
    while pairs := [
        (rank, place)
        for place, pair in enumerate(itertools.pairwise(parts))
        if (rank := ranks.get(pair[0] + pair[1])) is not None
    ]:
        _, place = min(pairs)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts
