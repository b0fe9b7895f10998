"""A small GraphQL server with the contract's viewer and completion, for tests of the explorer alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from enum import Enum
from typing import Annotated, Any, cast

import strawberry
from graphql import GraphQLError
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Route, WebSocketRoute
from strawberry.asgi import GraphQL
from strawberry.scalars import JSON
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import Info

from web import explorer

INPUT = strawberry.argument(name="input")
TOKEN = "my_0123456789abcdef"


@strawberry.enum
class MessageRole(Enum):
    SYSTEM = "SYSTEM"
    USER = "USER"


@strawberry.enum
class FinishReason(Enum):
    STOP = "STOP"


@strawberry.input
class MessageInput:
    role: MessageRole
    text: str


@strawberry.input
class ModelReferenceInput:
    provider: str
    name: str


@strawberry.input
class CompletionInput:
    messages: list[MessageInput]
    model: ModelReferenceInput | None = None
    parameters: JSON | None = None


@strawberry.type
class ModelKey:
    provider: str
    name: str


@strawberry.type
class UserError:
    code: str
    message: str
    retryable: bool = False
    retry_after: float | None = None


@strawberry.type
class Attempt:
    model: ModelKey
    error: UserError | None = None


@strawberry.type
class Usage:
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    estimated: bool

    @strawberry.field
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@strawberry.type
class Cost:
    amount: str
    currency: str


@strawberry.type
class Invocation:
    time_to_first_token: float
    duration: float


@strawberry.interface
class CompletionEvent:
    invocation_id: strawberry.ID | None
    sequence: int


@strawberry.type
class CompletionStarted(CompletionEvent):
    model: ModelKey
    provider_type: str = "CUSTOM"
    credential_name: str | None = "local server"


@strawberry.type
class CompletionRerouted(CompletionEvent):
    failed: Attempt
    model: ModelKey
    credential_name: str | None = None


@strawberry.type
class TextDelta(CompletionEvent):
    text: str


@strawberry.type
class ReasoningDelta(CompletionEvent):
    text: str


@strawberry.type
class ToolCallDelta(CompletionEvent):
    index: int
    id: str | None
    name: str | None
    arguments: str


@strawberry.type
class CompletionFinished(CompletionEvent):
    finish_reason: FinishReason
    usage: Usage
    cost: Cost | None
    invocation: Invocation | None


@strawberry.type
class CompletionFailed(CompletionEvent):
    error: UserError
    usage: Usage | None = None


@strawberry.type
class CompletionInterrupted(CompletionEvent):
    reason: str
    resume_after: int | None = None
    retry_after: float | None = None


EVENTS = (
    CompletionStarted,
    CompletionRerouted,
    TextDelta,
    ReasoningDelta,
    ToolCallDelta,
    CompletionFinished,
    CompletionFailed,
    CompletionInterrupted,
)


@strawberry.type
class Account:
    name: str
    email: str


@strawberry.type
class ApiToken:
    name: str
    prefix: str
    role: str
    expires_at: str | None = None


@strawberry.type
class Workspace:
    id: strawberry.ID
    name: str
    slug: str
    viewer_role: str
    viewer_permissions: list[str]


@strawberry.type
class Viewer:
    account: Account
    token: ApiToken
    workspace: Workspace | None
    is_operator: bool = True


WORKSPACE = Workspace(
    id=strawberry.ID("wks_0199"),
    name="Field notes",
    slug="field-notes",
    viewer_role="OWNER",
    viewer_permissions=["WORKSPACE_READ", "MODEL_INVOKE"],
)


def require_token(info: Info[Any, None]) -> None:
    """Raise UNAUTHENTICATED unless the request, or the start of its connection, carries TOKEN."""
    context = info.context
    connection: HTTPConnection = context["request"]
    params = context.get("connection_params") or {}
    given = params.get("authorization") or connection.headers.get("authorization")
    if given != f"Bearer {TOKEN}":
        raise GraphQLError("This token is not known.", extensions={"code": "UNAUTHENTICATED"})


@strawberry.type
class Query:
    @strawberry.field
    def viewer(self, info: Info[Any, None]) -> Viewer:
        require_token(info)
        account = Account(name="Ada Lovelace", email="ada@example.org")
        token = ApiToken(name="first start", prefix=TOKEN[:6], role="OWNER")
        return Viewer(account=account, token=token, workspace=WORKSPACE)

    @strawberry.field
    def workspace(self, info: Info[Any, None]) -> Workspace | None:
        require_token(info)
        return WORKSPACE


@strawberry.input
class CancelInvocationInput:
    id: strawberry.ID


@strawberry.type
class InvocationPayload:
    errors: list[UserError]


cancelled: set[str] = set()


@strawberry.type
class Mutation:
    @strawberry.mutation
    def cancel_invocation(
        self, info: Info[Any, None], asked: Annotated[CancelInvocationInput, INPUT]
    ) -> InvocationPayload:
        require_token(info)
        cancelled.add(asked.id)
        return InvocationPayload(errors=[])


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def completion(
        self, info: Info[Any, None], asked: Annotated[CompletionInput, INPUT]
    ) -> AsyncGenerator[CompletionEvent, None]:
        require_token(info)
        delay_ms = cast("dict[str, int]", asked.parameters or {}).get("delay_ms", 0)
        for event in events_of(asked):
            if event.invocation_id in cancelled:
                cancelled.remove(event.invocation_id)
                error = UserError(code="CANCELLED", message="The call was cancelled.")
                yield CompletionFailed(invocation_id=event.invocation_id, sequence=event.sequence, error=error)
                return
            yield event
            await asyncio.sleep(delay_ms / 1000)


def events_of(asked: CompletionInput) -> list[CompletionEvent]:
    """Return the whole completion: the last message word by word; "tool" and "think" in it add such deltas."""
    call = strawberry.ID("inv_0199a4e1")
    key = ModelKey(provider="echo", name="echo")
    if asked.model:
        key = ModelKey(provider=asked.model.provider, name=asked.model.name)
    text = asked.messages[-1].text
    if key.provider == "echo" and key.name != "echo":
        error = UserError(code="MODEL_NOT_FOUND", message=f"echo has no model named {key.name}.")
        return [CompletionFailed(invocation_id=None, sequence=0, error=error)]

    events: list[CompletionEvent] = [CompletionStarted(invocation_id=call, sequence=0, model=key)]
    if "think" in text:
        for piece in ("The person wants ", "an echo."):
            events.append(ReasoningDelta(invocation_id=call, sequence=len(events), text=piece))
    words = text.split(" ")
    for at, word in enumerate(words):
        piece = word if at == len(words) - 1 else f"{word} "
        events.append(TextDelta(invocation_id=call, sequence=len(events), text=piece))
    if "tool" in text:
        for identity, name, piece in (("call_1", "weather", '{"city"'), (None, None, ': "Oslo"}')):
            events.append(
                ToolCallDelta(
                    invocation_id=call,
                    sequence=len(events),
                    index=0,
                    id=identity,
                    name=name,
                    arguments=piece,
                )
            )
    usage = Usage(input_tokens=21, output_tokens=len(words), reasoning_tokens=0, estimated=False)
    events.append(
        CompletionFinished(
            invocation_id=call,
            sequence=len(events),
            finish_reason=FinishReason.STOP,
            usage=usage,
            cost=Cost(amount="0.00", currency="USD"),
            invocation=Invocation(time_to_first_token=0.02, duration=0.02 * len(words)),
        )
    )
    return events


def app() -> Starlette:
    """Return the explorer together with this server at `/graphql`."""
    schema = strawberry.Schema(query=Query, mutation=Mutation, subscription=Subscription, types=EVENTS)
    view: GraphQL[Any, None] = GraphQL(
        schema, subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL]
    )
    return Starlette(
        routes=[Route("/graphql", view), WebSocketRoute("/graphql", view), *explorer.routes()],
    )
