"""Objects of which all that is selected is resolved at once, completed by a plan that is made once per operation.

graphql-core prepares each field of each object anew: its arguments, its path, what it could await. In a list of hundreds of
objects that is most of the time. A plan knows beforehand that nothing of it is needed. Where a plan meets anything else (an
error, a null where none may be, what has to be awaited after all) it gives up, and graphql-core does the object again and says what is wrong, and where.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CoroutineType
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
)
from graphql.execution import Executor
from graphql.execution.collect_fields import FieldDetails

from graph.direct import DIRECT

Complete = Callable[[Any], Any]
"""Turns what a resolver gave into what the response shows; raises where it cannot."""

_INT_LIMIT = 2**31


class _Unplanned(Exception):
    """The value needs graphql-core."""


@dataclass(frozen=True, slots=True)
class _Told:
    """All that resolvers of fields without arguments are told."""

    context: Any


@dataclass(frozen=True, slots=True)
class _Step:
    """How one selected field is resolved and completed."""

    name: str
    resolve: Callable[..., Any]
    complete: Complete

    def take(self, source: Any, info: _Told) -> Any:
        """Return the field of an object as the response shows it."""
        value = self.resolve(source, info)
        if type(value) is CoroutineType:
            value.close()
            raise _Unplanned
        return self.complete(value)


Details = list[FieldDetails]


class Planned(Executor[Any]):
    """An executor that plans. Mixed into the executor of the schema, before it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._info = _Told(self.context_value)
        # By the identity of what is selected, which is kept beside, so that its id is nobody else's.
        self._plans: dict[tuple[str, int], tuple[Details, Complete | None]] = {}
        self._steps: dict[tuple[str, int], tuple[Details, _Step | None]] = {}

    def complete_object_value(self, return_type: GraphQLObjectType, field_details_list: Details, *given: Any) -> Any:
        """Complete an object by its plan, or as graphql-core does."""
        plan = self._plan_of(return_type, field_details_list)
        if plan is not None:
            _, _, result, *_ = given
            try:
                return plan(result)
            except Exception:  # noqa: S110 - whatever it is, graphql-core meets it too and says where
                pass
        return super().complete_object_value(return_type, field_details_list, *given)

    def execute_field(
        self, parent_type: GraphQLObjectType, source: Any, field_details_list: Details, *given: Any
    ) -> Any:
        """Give a field of an object that has no plan as a whole by its step, or as graphql-core does."""
        step = self._step_of(parent_type, field_details_list)
        if step is not None:
            try:
                return step.take(source, self._info)
            except Exception:  # noqa: S110 - as above
                pass
        return super().execute_field(parent_type, source, field_details_list, *given)

    def _plan_of(self, kind: GraphQLObjectType, details: Details) -> Complete | None:
        key = (kind.name, id(details))
        if key not in self._plans:
            self._plans[key] = details, self._plan(kind, details)
        return self._plans[key][1]

    def _step_of(self, kind: GraphQLObjectType, details: Details) -> _Step | None:
        key = (kind.name, id(details))
        if key not in self._steps:
            self._steps[key] = details, self._step("", kind, details)
        return self._steps[key][1]

    def _plan(self, kind: GraphQLObjectType, details: Details) -> Complete | None:
        grouped, defers, _ = self.collect_subfields(kind, details)
        if defers:
            return None
        steps = [self._step(name, kind, of_field) for name, of_field in grouped.items()]
        whole = [step for step in steps if step is not None]
        return _object(whole, self._info) if len(whole) == len(steps) else None

    def _step(self, name: str, kind: GraphQLObjectType, details: Details) -> _Step | None:
        field_name = details[0].node.name.value
        if field_name == "__typename":
            return _Step(name, _constant(kind.name), _same)
        field = kind.fields.get(field_name)
        if field is None or not field.extensions.get(DIRECT) or field.resolve is None or self.middleware_manager:
            return None
        complete = self._completion(field.type, details)
        return _Step(name, field.resolve, complete) if complete is not None else None

    def _completion(self, kind: GraphQLOutputType, details: Details) -> Complete | None:
        if isinstance(kind, GraphQLNonNull):
            if isinstance(kind.of_type, GraphQLScalarType | GraphQLEnumType):
                return _leaf(kind.of_type, required=True)
            inner = self._completion(kind.of_type, details)
            return None if inner is None else _present(inner)
        if isinstance(kind, GraphQLList):
            inner = self._completion(kind.of_type, details)
            return None if inner is None else _listed(inner)
        if isinstance(kind, GraphQLScalarType | GraphQLEnumType):
            return _leaf(kind, required=False)
        if isinstance(kind, GraphQLObjectType):
            inner = self._plan_of(kind, details)
            return None if inner is None else _optional(inner)
        return None


def planned(base: type[Executor[Any]]) -> type[Executor[Any]]:
    """Return the executor that plans, and else is `base`."""
    return type("PlannedExecutor", (Planned, base), {})


def _object(steps: Sequence[_Step], info: _Told) -> Complete:
    parts = [(step.name, step.resolve, step.complete) for step in steps]

    def complete(source: Any) -> dict[str, Any]:
        completed = {}
        for name, resolve, finish in parts:
            value = resolve(source, info)
            if type(value) is CoroutineType:
                value.close()
                raise _Unplanned
            completed[name] = finish(value)
        return completed

    return complete


def _present(inner: Complete) -> Complete:
    def complete(value: Any) -> Any:
        completed = inner(value)
        if completed is None:
            raise _Unplanned
        return completed

    return complete


def _optional(inner: Complete) -> Complete:
    return lambda value: None if value is None else inner(value)


def _listed(inner: Complete) -> Complete:
    def complete(values: Any) -> Any:
        if values is None:
            return None
        if not isinstance(values, list | tuple):
            raise _Unplanned
        return [inner(value) for value in values]

    return complete


def _leaf(kind: GraphQLScalarType | GraphQLEnumType, *, required: bool) -> Complete:
    coerce = kind.coerce_output_value

    def any_leaf(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Exception):
            raise _Unplanned
        return coerce(value)

    complete = _present(any_leaf) if required else any_leaf
    if isinstance(kind, GraphQLEnumType):
        return _remembered(complete)
    if kind.name == "Int":
        return _whole(complete)
    plain = _PLAIN.get(kind.name)
    return complete if plain is None else lambda value: value if type(value) is plain else complete(value)


_PLAIN = {"String": str, "ID": str, "Boolean": bool}
"""Scalars whose values of this type are shown as they are."""


def _remembered(complete: Complete) -> Complete:
    names: dict[Any, Any] = {}

    def member(value: Any) -> Any:
        name = names.get(value)
        if name is None:
            name = names[value] = complete(value)
        return name

    return member


def _whole(complete: Complete) -> Complete:
    def whole(value: Any) -> Any:
        return value if type(value) is int and -_INT_LIMIT <= value < _INT_LIMIT else complete(value)

    return whole


def _constant(value: str) -> Callable[..., Any]:
    return lambda *_: value


def _same(value: Any) -> Any:
    return value
