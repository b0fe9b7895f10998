"""How types of the schema are declared: docstrings are the descriptions, and every enum value has one."""

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar, dataclass_transform

import strawberry
from strawberry.types.base import get_object_definition
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.field import StrawberryField

from graph.inputs import from_input

T = TypeVar("T")
E = TypeVar("E", bound=type[Enum])


def attribute(description: str, *, default: Any = ..., name: str | None = None) -> Any:
    """Return a field of a type or an input that holds a plain value."""
    given = {} if default is ... else {"default": default}
    return strawberry.field(description=description, name=name, **given)


def resolved(resolver: Callable[..., Any]) -> Any:
    """Return a field that the decorated method resolves; its docstring is the description."""
    return strawberry.field(resolver=resolver, description=text_of(resolver))


def argument(description: str, *, name: str | None = None) -> Any:
    """Return what describes an argument inside `Annotated`."""
    return strawberry.argument(description=description, name=name)


def streamed(source: Callable[..., Any]) -> Any:
    """Return a field of which the decorated method gives the events; its docstring is the description."""
    return strawberry.subscription(resolver=source, description=text_of(source))


@dataclass_transform(order_default=True, kw_only_default=True, field_specifiers=(attribute, StrawberryField))
def object_type(cls: type[T]) -> type[T]:
    """Make a class an object type of the schema; its docstring is the description."""
    return strawberry.type(cls, description=text_of(cls))


@dataclass_transform(order_default=True, kw_only_default=True, field_specifiers=(attribute, StrawberryField))
def named_type(name: str) -> Callable[[type[T]], type[T]]:
    """Make a class an object type under another name than its own."""

    def declare(cls: type[T]) -> type[T]:
        return strawberry.type(cls, name=name, description=text_of(cls))

    return declare


@dataclass_transform(order_default=True, kw_only_default=True, field_specifiers=(attribute, StrawberryField))
def input_type(cls: type[T]) -> type[T]:
    """Make a class an input of the schema; its docstring is the description."""
    return _made_here(strawberry.input(cls, description=text_of(cls)))


@dataclass_transform(order_default=True, kw_only_default=True, field_specifiers=(attribute, StrawberryField))
def one_of_input(cls: type[T]) -> type[T]:
    """Make a class an input of which exactly one field is given."""
    return _made_here(strawberry.input(cls, one_of=True, description=text_of(cls)))


def _made_here(cls: type[T]) -> type[T]:
    get_object_definition(cls, strict=True).from_input = from_input
    return cls


def described(enum: E, description: str, *, name: str | None = None, **values: str) -> E:
    """Make an enum of core one of the schema, under its own members; each is described.

    Raises:
        TypeError: a member has no description, or a description no member.
    """
    members = [member.name for member in enum]
    if set(members) != set(values):
        raise TypeError(f"{enum.__name__}: described are {sorted(values)}, there are {sorted(members)}")
    declared = strawberry.enum(enum, name=name, description=description)
    definition: StrawberryEnumDefinition = declared.__strawberry_definition__  # type: ignore[attr-defined]
    for value in definition.values:
        value.description = values[value.name]
    return declared


def text_of(described_object: Any) -> str:
    """Return a docstring as one paragraph a line.

    Raises:
        TypeError: there is none.
    """
    text = described_object.__dict__.get("__doc__") if inspect.isclass(described_object) else described_object.__doc__
    if not text:
        raise TypeError(f"{described_object.__qualname__} has no docstring to be its description")
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


@strawberry.interface(description="Anything that has an id, by which it can be fetched again.")
class Node:
    """The interface of everything that has an id."""

    @resolved
    def id(self) -> strawberry.ID:
        """The object's id: opaque, stable, unique in the installation. Give it to `node` to fetch it again."""
        raise NotImplementedError
