"""Inputs made of what GraphQL has read: planned once for each type, where Strawberry looks at every field anew."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import Any

from strawberry.scalars import is_scalar
from strawberry.types.arguments import InputContext
from strawberry.types.base import StrawberryList, StrawberryMaybe, StrawberryOptional, get_object_definition
from strawberry.types.enum import StrawberryEnumDefinition, has_enum_definition

Make = Callable[[Any], Any]
"""Makes the value of an input, not null, from what GraphQL has read of it."""


class _Plan:
    """How an input of one type is made: what stands for a field that is left out, and how each one given is made."""

    __slots__ = ("blank", "cls", "fields")

    def __init__(self, cls: type, context: InputContext) -> None:
        definition = get_object_definition(cls, strict=True)
        self.cls = cls
        self.blank = {
            field.python_name: None
            for field in definition.fields
            if field.default_value is MISSING and field.default_factory is MISSING
        }
        self.fields = [
            (
                context.config.name_converter.from_field(field),
                field.python_name,
                _maker(field.resolve_type(type_definition=definition), context),
            )
            for field in definition.fields
        ]

    def made(self, value: Mapping[str, Any]) -> Any:
        """Return the input."""
        given = dict(self.blank)
        for name, python_name, make in self.fields:
            if name in value:
                one = value[name]
                given[python_name] = one if one is None or make is None else make(one)
        return self.cls(**given)


_plans: dict[type, _Plan] = {}


def from_input(cls: type, value: Mapping[str, Any], context: InputContext) -> Any:
    """Return an input as Strawberry would make it."""
    plan = _plans.get(cls)
    if plan is None:
        plan = _plans[cls] = _Plan(cls, context)
    return plan.made(value)


def _maker(kind: Any, context: InputContext) -> Make | None:
    """Return how a value of a type is made; None where it is as GraphQL has read it.

    Raises:
        TypeError: it is of a type that no input here has.
    """
    if isinstance(kind, StrawberryOptional) and not isinstance(kind, StrawberryMaybe):
        return _maker(kind.of_type, context)
    if isinstance(kind, StrawberryList):
        return _list_maker(_maker(kind.of_type, context))
    if is_scalar(kind, context.scalar_registry) or isinstance(kind, StrawberryEnumDefinition):
        return None
    if has_enum_definition(kind):
        return None
    if get_object_definition(kind) is None:
        raise TypeError(f"inputs of {kind!r} are not made here")
    return lambda value: from_input(kind, value, context)


def _list_maker(make: Make | None) -> Make:
    if make is None:
        return list  # a copy: a default is one list for all
    return lambda values: [None if one is None else make(one) for one in values]
