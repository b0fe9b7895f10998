"""The dialects of the fake provider, one module each."""

from collections.abc import Callable

from tests.fake_dialects import anthropic, cohere, gemini, ollama, openai_chat, openai_responses
from tests.fake_dialects.base import Dialect, Request

DIALECTS: tuple[tuple[Callable[[Request], bool], Dialect], ...] = (
    (lambda request: "anthropic-version" in request.headers, anthropic),
    (lambda request: "x-goog-api-key" in request.headers, gemini),
    (lambda request: request.path.startswith("/api/"), ollama),
    (lambda request: request.path.startswith("/cohere/"), cohere),
    (lambda request: request.path.partition("?")[0].endswith("/responses"), openai_responses),
    (lambda request: True, openai_chat),
)

CALLS = (
    "/chat/completions",
    "/responses",
    "/v1/messages",
    ":generateContent",
    ":streamGenerateContent",
    "/v2/chat",
    "/api/chat",
)


def dialect_of(request: Request) -> Dialect:
    """Return what speaks the dialect that a request is in."""
    return next(dialect for fits, dialect in DIALECTS if fits(request))


def is_call(request: Request) -> bool:
    """Tell whether a request asks for a completion."""
    return request.method == "POST" and request.path.partition("?")[0].endswith(CALLS)
