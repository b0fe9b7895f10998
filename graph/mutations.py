"""How a mutation answers: a payload with what changed, or with the errors that the caller can mend."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import strawberry

from core.errors import ModelyardError, Unauthenticated
from graph.problems import UserError
from graph.types import argument, attribute, object_type, text_of

P = ParamSpec("P")


ERRORS = "What went wrong; empty when all went well."


class Payload(Protocol):
    """What all payloads have."""

    errors: list[UserError]


T = TypeVar("T", bound=Payload)


def mutation(payload: Callable[..., T]) -> Callable[[Callable[P, Awaitable[T]]], Any]:
    """Return a decorator for a mutation with this payload: a failure by name becomes its only error.

    A missing token stays an error of the request.
    """

    def declare(resolver: Callable[P, Awaitable[T]]) -> Any:
        @wraps(resolver)
        async def answered(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return await resolver(*args, **kwargs)
            except Unauthenticated:
                raise
            except ModelyardError as error:
                return payload(errors=[UserError.of(error)])

        return strawberry.mutation(resolver=answered, description=text_of(resolver))

    return declare


@object_type
class DeletedPayload:
    """What came of a deletion."""

    deleted_id: strawberry.ID | None = attribute("The id of what is gone; null when it failed.", default=None)
    errors: list[UserError] = attribute(ERRORS)


INPUT = argument("What is asked for.")
