"""Errors as clients see them: ours with their code, faults of the server masked and logged under an id."""

import logging
import re
from typing import Any

from graphql import GraphQLError

from core.errors import ModelyardError
from core.ids import uuid7

log = logging.getLogger(__name__)

BAD_REQUEST = "BAD_REQUEST"

_VALUES = (
    (re.compile(r", found: .*", re.DOTALL), "."),
    (re.compile(r"^(Syntax Error: .*?String) ['\"].*", re.DOTALL), r"\1."),
    (re.compile(r"(cannot represent(?: an?| non)?[\w -]* value): .*", re.DOTALL), r"\1."),
    (re.compile(r"Value .* does not exist in ('\w+' enum)", re.DOTALL), r"The value does not exist in \1"),
)
"""Where graphql-core quotes a value that does not fit: it may hold a secret put in the wrong place."""


def formatted(error: GraphQLError) -> dict[str, Any]:
    """Return the error as it goes into a response.

    One of ours keeps its message and code. One of the client's making (syntax, validation, a value that does not fit)
    is BAD_REQUEST. Anything else is a fault of ours: masked, and logged with an id that the response shows.
    """
    original = _root_cause(error)
    shown = dict(error.formatted)
    if isinstance(original, ModelyardError):
        shown["message"] = original.message
        shown["extensions"] = _extensions(original)
    elif original is None:
        shown["message"] = _without_values(error.message)
        shown["extensions"] = {"code": BAD_REQUEST, **(error.extensions or {})}
    else:
        error_id = str(uuid7())
        log.error("error %s at %s", error_id, error.path, exc_info=original)
        shown["message"] = f"A fault of this server; its log has it under {error_id}."
        shown["extensions"] = {"code": "INTERNAL", "errorId": error_id}
    return shown


def _without_values(message: str) -> str:
    for quoted, instead in _VALUES:
        message = quoted.sub(instead, message)
    return message


def _root_cause(error: GraphQLError) -> BaseException | None:
    """Return the error that a resolver raised, None where no code of ours did."""
    original: BaseException | None = error.original_error
    while isinstance(original, GraphQLError):
        original = original.original_error
    return original


def _extensions(error: ModelyardError) -> dict[str, Any]:
    extensions: dict[str, Any] = {"code": error.code.value, "retryable": error.retryable}
    if error.path:
        extensions["path"] = list(error.path)
    if error.retry_after is not None:
        extensions["retryAfter"] = error.retry_after
    return extensions
