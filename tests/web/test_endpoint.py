"""The view over HTTP: what is refused and how, what is answered in which form, and that nobody's leaving leaks."""

import asyncio
import json
from typing import Any

import pytest

import web.endpoint
import web.streams
from tests.waiting import LIMIT_S, wait_for
from tests.web.view import CANARY, TOKEN, View, contexts, streams
from web.endpoint import is_crowded

EVENTS = "text/event-stream"
MULTIPART = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
GRAPHQL = "application/graphql-response+json"


def code_of(answer: Any) -> str:
    (error,) = answer.json()["errors"]
    return str(error["extensions"]["code"])


async def raw(view: View, query: str, accept: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a query on a socket of its own and return it, for a client that leaves as it likes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", view.port)
    body = json.dumps({"query": query}).encode()
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1:{view.port}\r\nauthorization: Bearer {TOKEN}\r\naccept: {accept}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    return reader, writer


@pytest.mark.parametrize(
    "body",
    [b"1", b"null", b'"x"', b"[]", b"{", b"\xff\xfe", b"[" * 100_000 + b"]" * 100_000, b'{"query": 5}', b"{}",
     b'{"query": "{ hello }", "variables": []}', b'{"query": "{ hello }", "variables": {"a": NaN}}',
     b'{"query": "{ hello }", "operationName": 1}', b'{"query": "{ hello }", "extensions": "x"}',
     b'[{"query": "{ hello }"}]'],
)  # fmt: skip
async def test_a_body_that_is_no_request_is_400(view: View, body: bytes) -> None:
    answer = await view.post(body)
    assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")
    assert "data" not in answer.json()


async def test_a_huge_body_is_refused_declared_or_not(view: View) -> None:
    huge = b'{"query": "' + b" " * 300_000 + b'"}'

    async def pieces() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    declared = await view.post(huge, token=None)
    streamed = await view.client.post("/graphql", content=pieces(), headers={"content-type": "application/json"})
    in_address = await view.get(query="{ hello } #" + "x" * 40_000)

    assert (declared.status_code, streamed.status_code) == (413, 413)
    assert in_address.json() == {"data": {"hello": "hello you"}}


async def test_a_large_body_of_many_values_is_not_read(view: View) -> None:
    many = b"[]," * web.endpoint.MAX_VALUES
    one = 'a, b, \\ and "c", ' * 50_000
    query = "query ($n: String!) { hello(name: $n) }"

    crowded = await view.post(b'{"query": "{ hello }", "variables": {"a": [' + many + b"0]}}")
    spacious = await view.post({"query": query, "variables": {"n": one}})

    assert (crowded.status_code, code_of(crowded)) == (413, "BAD_REQUEST")
    assert spacious.json() == {"data": {"hello": f"hello {one}"}}


async def test_a_long_document_is_not_read(view: View) -> None:
    answer = await view.post({"query": "{ hello } #" + "x" * web.endpoint.MAX_BODY})
    assert (answer.status_code, code_of(answer)) == (413, "BAD_REQUEST")
    assert "`variables`" in answer.text


def test_values_are_counted_and_commas_of_strings_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.endpoint, "MAX_VALUES", 3)
    values = [[1, 2, 3], {"a,b": "c,d", 'e",f': "\\", "g": '\\",,,'}, ",,,,,", ["a", ",", "b\\"]]
    assert not any(is_crowded(json.dumps(value).encode()) for value in values)
    assert all(is_crowded(json.dumps([*value, 1]).encode()) for value in values if isinstance(value, list))
    assert is_crowded(b'["\\",",",",",","]')


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/json; charset=latin-1", ""],
)  # fmt: skip
async def test_only_json_in_utf8_is_read(view: View, content_type: str) -> None:
    answer = await view.post({"query": "{ hello }"}, content_type=content_type)
    assert answer.status_code == 415


async def test_other_methods_and_forms_are_refused(view: View) -> None:
    put = await view.client.put("/graphql", content=b"{}")
    image = await view.post({"query": "{ hello }"}, accept="image/png")
    assert (put.status_code, put.headers["allow"]) == (405, "GET, POST")
    assert image.status_code == 406


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (GRAPHQL, GRAPHQL),
        ("application/json", "application/json"),
        (f"{GRAPHQL}, application/json;q=0.9", GRAPHQL),
        ("*/*", "application/json"),
        (f"{GRAPHQL}, application/graphql+json, application/json, text/event-stream, multipart/mixed", GRAPHQL),
        ("text/event-stream;q=0, application/json", "application/json"),
        ("*/*, application/json;q=0", GRAPHQL),
        ("application/*;q=0, application/json", "application/json"),
    ],
)
async def test_the_answer_has_the_form_that_the_client_likes_best(view: View, accept: str, media: str) -> None:
    answer = await view.post(
        {"query": "query Q($n: String!) { hello(name: $n) }", "variables": {"n": "ä"}}, accept=accept
    )
    assert answer.json() == {"data": {"hello": "hello ä"}}
    assert answer.headers["content-type"] == f"{media}; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "query", ["{", "{ nope }", "query A { hello } query B { hello }", "query ($n: Int!) { hello }"]
)
async def test_a_request_that_cannot_run_has_no_data(view: View, query: str) -> None:
    strict = await view.post({"query": query}, accept=GRAPHQL)
    lenient = await view.post({"query": query}, accept="application/json")
    stream = await view.post({"query": query}, accept=EVENTS)
    assert (strict.status_code, lenient.status_code, stream.status_code) == (400, 200, 400)
    assert "data" not in strict.json()
    assert strict.json() == lenient.json() == stream.json()


async def test_get_reads_and_never_writes(view: View) -> None:
    read = await view.get(query="query ($n: String!) { hello(name: $n) }", variables='{"n": "a"}')
    write = await view.get(query="mutation { change }")
    as_stream = await view.get(query="mutation { change }", accept=EVENTS)
    assert read.json() == {"data": {"hello": "hello a"}}
    assert (write.status_code, as_stream.status_code) == (405, 405)
    assert (await view.get(query="{ hello }", variables="{")).status_code == 400
    nothing = await view.get()
    assert (nothing.status_code, "explorer" in nothing.text) == (400, True)


async def test_pages_of_other_origins_are_refused(view: View) -> None:
    body, own = {"query": "{ hello }"}, f"http://127.0.0.1:{view.port}"
    refused = ["https://evil.example", "null", f"{own}.evil.example", f"http://127.0.0.1:{view.port + 1}"]
    assert [(await view.post(body, origin=origin)).status_code for origin in refused] == [403] * 4
    assert [(await view.post(body, origin=origin)).status_code for origin in (own, "https://friend.example")] == [
        200
    ] * 2
    assert (await view.post(body, sec_fetch_site="cross-site")).status_code == 403
    assert (await view.post(body, sec_fetch_site="same-origin")).status_code == 200


async def test_a_page_of_an_allowed_origin_may_ask_and_read_the_answer(view: View) -> None:
    friend = "https://friend.example"
    asked = {"origin": friend, "access-control-request-method": "POST"}

    before = await view.client.options(
        "/graphql", headers={**asked, "access-control-request-headers": "authorization,content-type,last-event-id"}
    )
    answers = [
        await view.post({"query": "{ hello }"}, origin=friend),
        await view.post({"query": "{ hello }"}, origin=friend, token="my_wrong"),
        await view.post({"query": "subscription { count(end: 1) }"}, origin=friend, accept=EVENTS),
        await view.post(b"[", origin=friend),
    ]

    assert before.status_code == 204
    assert before.headers["access-control-allow-origin"] == friend
    assert "POST" in before.headers["access-control-allow-methods"]
    assert before.headers["access-control-allow-headers"] == "authorization,content-type,last-event-id"
    assert [answer.status_code for answer in answers] == [200, 401, 200, 400]
    assert {answer.headers.get("access-control-allow-origin") for answer in answers} == {friend}
    assert {answer.headers.get("vary") for answer in answers} == {"origin"}
    assert not any("access-control-allow-credentials" in answer.headers for answer in (before, *answers))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://friend.example.evil.example"])
async def test_a_page_of_another_origin_is_not_let_ask(view: View, origin: str) -> None:
    asked = {"origin": origin, "access-control-request-method": "POST"}

    before = await view.client.options("/graphql", headers=asked)
    answer = await view.post({"query": "{ hello }"}, origin=origin)

    assert (before.status_code, answer.status_code) == (405, 403)
    assert not any(name.startswith("access-control") for one in (before, answer) for name in one.headers)


async def test_a_client_may_name_what_it_accepts_in_several_lines(view: View) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", view.port)
    body = b'{"query": "{ hello }"}'
    writer.write(
        b"POST /graphql HTTP/1.1\r\nhost: x\r\naccept: image/png\r\naccept: application/graphql-response+json\r\n"
        b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    answer = await asyncio.wait_for(reader.read(), LIMIT_S)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert GRAPHQL.encode() in answer


async def test_who_asks_is_looked_up_for_each_operation(view: View) -> None:
    known, body = [], {"query": "{ known }"}
    known.append((await view.post(body)).json())
    known.append((await view.post(body, token=None)).json())
    assert known == [{"data": {"known": True}}, {"data": {"known": False}}]

    wrong = await view.post(body, token="my_wrong", accept=GRAPHQL)
    assert (wrong.status_code, code_of(wrong)) == (401, "UNAUTHENTICATED")
    assert wrong.headers["www-authenticate"] == "Bearer"
    basic = await view.post(body, token=None, authorization="Basic eDp5")
    assert (basic.status_code, code_of(basic)) == (401, "UNAUTHENTICATED")

    view.identity.revoked = True
    assert (await view.post(body)).status_code == 401
    view.identity.away = True
    away = await view.post(body, accept=GRAPHQL)
    assert (away.status_code, code_of(away)) == (503, "SERVER_UNAVAILABLE")


async def test_the_schema_is_read_with_a_token_only(view: View) -> None:
    body = {"query": "{ __schema { queryType { name } } }"}
    assert (await view.post(body)).json()["data"]["__schema"]["queryType"]["name"] == "Query"
    anonymous = await view.post(body, token=None, accept=GRAPHQL)
    assert (anonymous.status_code, code_of(anonymous)) == (401, "UNAUTHENTICATED")


async def test_a_fault_is_masked_and_found_in_the_log(view: View, caplog: pytest.LogCaptureFixture) -> None:
    answer = await view.post({"query": "{ broken }"})
    (error,) = answer.json()["errors"]
    assert "canary" not in answer.text
    assert error["extensions"]["code"] == "INTERNAL"
    assert error["extensions"]["errorId"] in caplog.text
    assert CANARY in caplog.text


async def test_a_refusal_of_ours_keeps_its_code(view: View) -> None:
    answer = await view.post({"query": "{ forbidden hello }"})
    assert answer.json()["data"] == {"forbidden": None, "hello": "hello you"}
    assert answer.json()["errors"][0]["extensions"] == {"code": "FORBIDDEN", "retryable": False, "path": ["a"]}


async def test_a_fault_outside_of_resolvers_is_masked_too(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(web.endpoint, "viewer_of", broken)
    answer = await view.post({"query": "{ hello }"})
    assert (answer.status_code, code_of(answer)) == (500, "INTERNAL")
    assert "canary" not in answer.text


async def test_a_query_that_takes_too_long_is_stopped(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.endpoint, "QUERY_SECONDS", 0.1)
    answer = await view.post({"query": "{ forever }"})
    assert (answer.status_code, code_of(answer)) == (504, "TIMEOUT")


async def test_each_operation_has_a_context_of_its_own(view: View) -> None:
    for _ in range(2):
        await view.post({"query": "{ a: context b: context }"})
    first, second, third, fourth = contexts
    assert first is second
    assert third is fourth
    assert first is not third


async def test_a_subscription_by_plain_post_names_the_media_that_stream(view: View) -> None:
    answer = await view.post({"query": "subscription { count(end: 2) }"}, accept="application/json")
    assert answer.status_code == 406
    assert "text/event-stream" in answer.text
    assert streams.cleaned == 0


@pytest.mark.parametrize("way", ["POST", "GET"])
async def test_events_are_framed_as_graphql_sse_wants_them(view: View, way: str) -> None:
    query = "subscription { count(end: 2) }"
    answer = await (
        view.get(query=query, accept=EVENTS) if way == "GET" else view.post({"query": query}, accept=EVENTS)
    )
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-accel-buffering"] == "no"  # nginx passes it on as it comes
    assert answer.text == (
        ":\n\n"
        'event: next\ndata: {"data":{"count":0}}\n\n'
        'event: next\ndata: {"data":{"count":1}}\n\n'
        "event: complete\ndata: \n\n"
    )


async def test_a_query_as_events_is_one_event(view: View) -> None:
    answer = await view.post({"query": "{ hello }"}, accept=EVENTS)
    assert 'data: {"data":{"hello":"hello you"}}' in answer.text
    assert answer.text.count("event: next") == 1


async def test_a_multipart_part_is_whole_as_soon_as_it_is_sent(view: View) -> None:
    reader, writer = await raw(view, "subscription { ticks(every: 30) }", MULTIPART)
    first = await asyncio.wait_for(reader.readuntil(b'{"payload":{"data":{"ticks":0}}}\r\n--graphql'), LIMIT_S)
    assert b"subscriptionSpec=1.0" in first
    writer.close()
    await wait_for(lambda: streams.active == 0 and streams.cleaned == 1)

    whole = await view.post({"query": "subscription { count(end: 2) }"}, accept=MULTIPART)
    parts = whole.text.split("\r\n--graphql")
    assert [part.partition("\r\n\r\n")[2] for part in parts[1:-1]] == [
        '{"payload":{"data":{"count":0}}}',
        '{"payload":{"data":{"count":1}}}',
    ]
    assert (parts[0], parts[-1]) == ("", "--\r\n")


@pytest.mark.parametrize(("accept", "beat"), [(EVENTS, b":\n\n"), (MULTIPART, b"\r\n\r\n{}\r\n--graphql")])
async def test_a_silent_stream_beats(view: View, monkeypatch: pytest.MonkeyPatch, accept: str, beat: bytes) -> None:
    monkeypatch.setattr(web.streams, "_BEAT_SECONDS", {EVENTS: 0.05, "multipart/mixed": 0.05})
    reader, writer = await raw(view, "subscription { ticks(every: 30) }", accept)
    await asyncio.wait_for(reader.readuntil(b'"ticks":0'), LIMIT_S)
    for _ in range(2):
        await asyncio.wait_for(reader.readuntil(beat), LIMIT_S)
    writer.close()
    await wait_for(lambda: streams.active == 0)


@pytest.mark.parametrize("accept", [EVENTS, MULTIPART])
@pytest.mark.parametrize("query", ["subscription { ticks }", "subscription { rush }"])
async def test_who_leaves_leaves_nothing_behind(view: View, accept: str, query: str) -> None:
    opened = [await raw(view, query, accept) for _ in range(10)]
    for reader, _ in opened:
        await asyncio.wait_for(reader.readuntil(b'{"data":'), LIMIT_S)
    assert streams.active == 10
    for number, (_, writer) in enumerate(opened):
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()
    await wait_for(lambda: streams.active == 0)
    assert streams.cleaned == 10


async def test_a_reader_that_stalls_stops_nobody_else(view: View) -> None:
    stalled, writer = await raw(view, "subscription { rush }", EVENTS)
    await asyncio.wait_for(stalled.readuntil(b'"rush":0'), LIMIT_S)
    assert (await view.post({"query": "{ hello }"})).status_code == 200
    writer.transport.abort()
    await wait_for(lambda: streams.active == 0)


@pytest.mark.parametrize("accept", [EVENTS, MULTIPART])
async def test_a_stream_that_breaks_says_so_and_ends(view: View, accept: str) -> None:
    answer = await view.post({"query": "subscription { broken }"}, accept=accept)
    assert '"broken":0' in answer.text
    assert '"code":"INTERNAL"' in answer.text
    assert "canary" not in answer.text
    assert answer.text.endswith("event: complete\ndata: \n\n" if accept == EVENTS else "--\r\n")
    assert streams.active == 0
