"""Fields resolved without detours: straight from the object, where the resolver takes no argument of the document.

Strawberry prepares arguments and wraps what a resolver is given, for every field of every object. A field without arguments
needs none of it: its resolver wants the object and, at most, the context.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Protocol

from graphql import GraphQLField, GraphQLObjectType, GraphQLSchema
from strawberry.types.field import StrawberryField

DIRECT = "direct"
"""The extension of a field that is resolved at once, never by awaiting."""


class HasContext(Protocol):
    """What resolvers of this project use of what GraphQL tells them."""

    @property
    def context(self) -> Any:
        """Return the context of the operation."""
        ...


def shorten(schema: GraphQLSchema) -> None:
    """Give every field without arguments its short way."""
    for name, kind in schema.type_map.items():
        if not isinstance(kind, GraphQLObjectType) or name.startswith("__") or kind is schema.subscription_type:
            continue
        for field in kind.fields.values():
            declared = field.extensions.get("strawberry-definition")
            if isinstance(declared, StrawberryField) and not field.args and not declared.extensions:
                _shorten(field, declared)


def _shorten(field: GraphQLField, declared: StrawberryField) -> None:
    resolver = declared.base_resolver
    if resolver is None:
        field.resolve = _attribute(declared.python_name)
    elif resolver.parent_parameter is None and resolver.root_parameter is None:
        get: Any = resolver.wrapped_func
        field.resolve = _with_info(get) if resolver.info_parameter is not None else _of_object(get)
        if resolver.is_async:
            return
    else:
        return
    field.extensions = {**field.extensions, DIRECT: True}


def _attribute(name: str) -> Callable[[Any, HasContext], Any]:
    get = attrgetter(name)
    return lambda source, _: get(source)


def _of_object(get: Callable[[Any], Any]) -> Callable[[Any, HasContext], Any]:
    return lambda source, _: get(source)


def _with_info(get: Callable[..., Any]) -> Callable[[Any, HasContext], Any]:
    return lambda source, info: get(source, info=info)
