"""Documents that are too large are refused in linear time, before validation, and what is kept of documents is bounded."""

import time
from contextlib import suppress

import pytest
from graphql import get_introspection_query

from graph import documents
from graph.documents import Documents, Refused
from graph.schema import schema


@pytest.fixture
def served() -> Documents:
    return Documents(schema._schema)


def refusal_of(served: Documents, query: str, operation: str | None = None) -> dict[str, object]:
    """Return the extensions of the one error that a document is refused with, and its message."""
    with pytest.raises(Refused) as caught:
        served.prepare(query, operation)
    (error,) = caught.value.errors
    return {"message": error.message, **(error.extensions or {})}


@pytest.mark.parametrize(
    ("query", "limit"),
    [
        ("{ " + "a { " * 16 + "b" + " }" * 16 + " }", "depth"),
        ("{ viewer { " + "id " * 400 + "} }", "fields"),
        ("{ viewer { " + " ".join(f"a{n}: __typename" for n in range(61)) + " } }", "aliases"),
        ("{ viewer { __typename " + "@skip(if: false) " * 61 + "} }", "directives"),
        ("{ " + "__typename " * 21 + "}", "root fields"),
        ("{ __typename } fragment Unused on Viewer { " + "id " * 401 + "}", "fields"),
        ("{ __typename }" + "".join(f" fragment F{n} on Query {{ __typename }}" for n in range(61)), "fragments"),
        ("{ viewer { " + "isOperator " * 61 + "} }", "repeats of one field"),
        ("{ workspace { " + "models { nodes { id id id id id } } " * 13 + "} }", "repeats of one field"),
        ("{ viewer { " + "...A " * 31 + "} } fragment A on Viewer { ... { isOperator } isOperator }", "repeats of one field"),
        ("{ __typename } fragment Unused on Viewer { " + "id " * 61 + "}", "repeats of one field"),
        ('{ __type(name: "Query") { ' + "name " * 401 + "} }", "fields"),
        ("mutation { a: complete(input: {}) { __typename } b: complete(input: {}) { __typename } }", "billable root field"),
        ("mutation { ...A ...B } fragment A on Mutation { complete } fragment B on Mutation { complete }", "billable root field"),
    ],
)  # fmt: skip
def test_each_limit_is_named(served: Documents, query: str, limit: str) -> None:
    refused = refusal_of(served, query)
    assert (refused["code"], refused["limit"]) == ("OPERATION_TOO_LARGE", limit)


def test_fragments_that_double_are_measured_once(served: Documents) -> None:
    doubling = " ".join(f"fragment F{n} on Viewer {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))
    query = f"{{ viewer {{ ...F0 }} }} {doubling} fragment F40 on Viewer {{ __typename }}"

    began = time.thread_time()  # of this thread alone, whatever else the machine does
    refused = refusal_of(served, query)

    assert refused["limit"] == "fields"
    assert time.thread_time() - began < 0.5


def test_what_is_not_repeated_too_often_is_compared(served: Documents) -> None:
    assert served.prepare("{ viewer { " + "isOperator " * 60 + "} }", None)
    nowhere = " ".join(f"fragment F{n} on Viewer {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))
    assert "F41" in str(refusal_of(served, f"{{ viewer {{ ...F0 }} }} {nowhere} fragment F40 on Viewer {{ ...F41 }}"))
    assert "conflict" in str(refusal_of(served, '{ a: workspace(slug: "a") { id } a: workspace(slug: "b") { id } }'))


def test_a_long_chain_or_a_circle_of_fragments_breaks_nothing(served: Documents) -> None:
    chain = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(240))
    assert refusal_of(served, f"{{ ...F0 }} {chain} fragment F240 on Query {{ __typename }}")["limit"] == "fragments"
    circle = "{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }"
    assert "itself" in str(refusal_of(served, circle)["message"])
    repeating = (
        "{ viewer { " + "...A " * 190 + "} } fragment A on Viewer { isOperator ...B } fragment B on Viewer { ...B }"
    )
    assert "itself" in str(refusal_of(served, repeating)["message"])


def test_tokens_and_nesting_are_bounded_by_the_parser(served: Documents) -> None:
    assert refusal_of(served, "{ " + "a " * 2000 + "}")["limit"] == "tokens"
    assert "Syntax Error" in str(refusal_of(served, "{a" * 500 + "}" * 500)["message"])


def test_errors_are_few_and_suggest_nothing(served: Documents) -> None:
    with pytest.raises(Refused) as caught:
        served.prepare("{ " + " ".join(f"a{n}: wiewer" for n in range(15)) + " }", None)
    messages = [error.message for error in caught.value.errors]
    assert len(messages) <= 6
    assert not any("Did you mean" in message for message in messages)


def test_an_unknown_fragment_is_a_plain_validation_error(served: Documents) -> None:
    assert "Nope" in str(refusal_of(served, "{ ...Nope }")["message"])


def test_the_operation_must_be_named_where_there_are_several(served: Documents) -> None:
    query = "query A { __typename } query B { __typename }"
    assert "operationName" in str(refusal_of(served, query)["message"])
    assert "'C'" in str(refusal_of(served, query, "C")["message"])
    assert served.prepare(query, "B").name == "B"


def test_ordinary_introspection_fits(served: Documents) -> None:
    query = get_introspection_query(descriptions=True, specified_by_url=True, input_value_deprecation=True)
    assert served.prepare(query, None).checked.introspects


def test_a_document_is_kept_and_so_is_a_refusal(served: Documents) -> None:
    first = served.prepare("{ __typename }", None)
    assert served.prepare("{ __typename }", None).checked is first.checked
    one, two = refusal_of(served, "{ nope }"), refusal_of(served, "{ nope }")
    assert one == two


@pytest.mark.parametrize("end", ["}", "", " nope }"])
def test_a_document_that_may_hold_a_secret_is_not_kept(served: Documents, end: str) -> None:
    given = '{ provider: "openai", values: [{ field: "api_key", value: "sk-canary" }] }'
    with suppress(Refused):
        served.prepare(f"mutation {{ createCredential(input: {given}) {{ errors {{ code }} }} {end}", None)
    served.prepare("mutation ($i: CreateCredentialInput!) { createCredential(input: $i) { errors { code } } }", None)

    assert len(served._kept) == 1
    assert "canary" not in str(served._kept)


def test_what_is_kept_is_bounded_in_number_and_in_tokens(served: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "KEPT_DOCUMENTS", 10)
    for number in range(30):
        served.prepare(f"query Q{number} {{ __typename }}", None)
    assert len(served._kept) == 10
    assert "query Q29 { __typename }" in served._kept

    monkeypatch.setattr(documents, "KEPT_TOKENS", 40)
    for number in range(30):
        served.prepare(f"query R{number} {{ __typename }}", None)
    assert 0 < served._tokens <= 40
    assert served._tokens == sum(tokens for _, tokens in served._kept.values())

    served.prepare("query S { __typename }" + " " * documents.KEPT_CHARACTERS, None)
    assert all(len(text) <= documents.KEPT_CHARACTERS for text in served._kept)
