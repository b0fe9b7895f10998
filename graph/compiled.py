"""The selection of a streaming subscription, compiled once to functions from an event to the bytes of its payload.

graphql-core executes a selection anew for every event. Where all that is selected on an event's type are plain
attributes, the answer is always the same text around a few values: that is what a compiled encoder joins. A type on
which anything else is selected (an argument, a field with a resolver of its own) is left out, and its events go through
graphql-core.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import msgspec
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    SelectionNode,
    SelectionSetNode,
    VariableNode,
)
from strawberry.types.field import StrawberryField

from graph.documents import Prepared

Encoder = Callable[[Any], bytes]

_json = msgspec.json.Encoder().encode
_INT_LIMIT = 2**31
_KEPT_VARIANTS = 16


class NotCompilable(Exception):
    """Something is selected, or met in an event, that needs graphql-core."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """Encoders by the class of the event."""

    encoders: Mapping[type, Encoder]


def compile_selection(
    schema: GraphQLSchema,
    prepared: Prepared,
    variables: Mapping[str, Any],
    structs: Mapping[str, type],
) -> Compiled:
    """Return the encoders of a subscription's events; `structs` are the classes of its object types.

    Kept with the document for each way in which its @skip and @include come out, the last few of them.
    """
    selection = _Selection(schema, prepared, variables)
    key = (prepared.name, selection.conditions())
    kept = prepared.checked.compiled
    found = kept.get(key)
    if found is None:
        found = Compiled(selection.encoders(structs))
        if len(kept) >= _KEPT_VARIANTS:
            del kept[next(iter(kept))]
        kept[key] = found
    assert isinstance(found, Compiled)
    return found


class _Selection:
    def __init__(self, schema: GraphQLSchema, prepared: Prepared, variables: Mapping[str, Any]) -> None:
        self._schema = schema
        self._operation = prepared.operation
        self._fragments = {
            one.name.value: one for one in prepared.document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._variables = self._with_defaults(variables)

    def conditions(self) -> tuple[tuple[str, bool], ...]:
        """Return the variables that may decide a @skip or @include, with their values."""
        return tuple(sorted((name, value) for name, value in self._variables.items() if isinstance(value, bool)))

    def encoders(self, structs: Mapping[str, type]) -> dict[type, Encoder]:
        """Return the encoder of each class that can be compiled."""
        root_type = self._schema.subscription_type
        assert root_type is not None
        try:
            collected = self._collect(self._operation.selection_set, root_type)
        except NotCompilable:
            return {}
        if len(collected) != 1:
            return {}
        ((key, nodes),) = collected.items()
        prefix, suffix = b'{"data":{' + _json(key) + b":", b"}}"
        found: dict[type, Encoder] = {}
        for name, struct in structs.items():
            object_type = self._schema.type_map.get(name)
            if not isinstance(object_type, GraphQLObjectType):
                continue
            try:
                found[struct] = _wrapped(prefix, self._object(object_type, nodes), suffix)
            except NotCompilable:
                continue
        return found

    def _object(self, object_type: GraphQLObjectType, nodes: list[FieldNode]) -> Encoder:
        fields: dict[str, list[FieldNode]] = {}
        for node in nodes:
            if node.selection_set is not None:
                self._collect_into(fields, node.selection_set, object_type)
        parts: list[bytes | Encoder] = []
        for number, (key, of_key) in enumerate(fields.items()):
            parts.append((b"{" if number == 0 else b",") + _json(key) + b":")
            parts.append(self._field(object_type, of_key))
        parts.append(b"}" if fields else b"{}")
        return _joined(parts)

    def _field(self, object_type: GraphQLObjectType, nodes: list[FieldNode]) -> bytes | Encoder:
        name = nodes[0].name.value
        if name == "__typename":
            return _json(object_type.name)
        definition = object_type.fields.get(name)
        if definition is None or any(node.arguments for node in nodes):
            raise NotCompilable(name)
        return _got(_getter(definition), self._value(definition.type, nodes))

    def _value(self, kind: Any, nodes: list[FieldNode]) -> Encoder:
        if isinstance(kind, GraphQLNonNull):
            return self._present(kind.of_type, nodes)
        encode = self._present(kind, nodes)
        return lambda value: b"null" if value is None else encode(value)

    def _present(self, kind: Any, nodes: list[FieldNode]) -> Encoder:
        """Return the encoder of a value that is not None; None makes it NotCompilable, and graphql-core complains."""
        if isinstance(kind, GraphQLList):
            return _listed(self._value(kind.of_type, nodes))
        if isinstance(kind, GraphQLEnumType | GraphQLScalarType):
            return _leaf(kind)
        if isinstance(kind, GraphQLObjectType):
            inner = self._object(kind, nodes)
            return lambda value: inner(value) if value is not None else _missing()
        raise NotCompilable(str(kind))

    def _collect(self, selection_set: SelectionSetNode, object_type: GraphQLObjectType) -> dict[str, list[FieldNode]]:
        fields: dict[str, list[FieldNode]] = {}
        self._collect_into(fields, selection_set, object_type)
        return fields

    def _collect_into(
        self, fields: dict[str, list[FieldNode]], selection_set: SelectionSetNode, object_type: GraphQLObjectType
    ) -> None:
        self._gather(fields, selection_set, object_type, set())

    def _gather(
        self,
        fields: dict[str, list[FieldNode]],
        selection_set: SelectionSetNode,
        object_type: GraphQLObjectType,
        seen: set[str],
    ) -> None:
        for node in selection_set.selections:
            if not self._included(node):
                continue
            if isinstance(node, FieldNode):
                key = node.alias.value if node.alias is not None else node.name.value
                fields.setdefault(key, []).append(node)
                continue
            fragment: Any = node
            if isinstance(node, FragmentSpreadNode):
                if node.name.value in seen:
                    continue
                seen.add(node.name.value)
                fragment = self._fragments[node.name.value]
            if self._applies(fragment.type_condition, object_type):
                self._gather(fields, fragment.selection_set, object_type, seen)

    def _applies(self, condition: Any, object_type: GraphQLObjectType) -> bool:
        if condition is None:
            return True
        kind = self._schema.type_map[condition.name.value]
        if kind is object_type:
            return True
        return isinstance(kind, GraphQLInterfaceType) and self._schema.is_sub_type(kind, object_type)

    def _included(self, node: SelectionNode) -> bool:
        for directive in node.directives or ():
            name = directive.name.value
            if name not in {"skip", "include"}:
                raise NotCompilable(name)
            value: Any = (directive.arguments or ())[0].value
            decided = self._variables.get(value.name.value) if isinstance(value, VariableNode) else value.value
            if not isinstance(decided, bool):
                raise NotCompilable("a condition that is null")
            if decided is (name == "skip"):
                return False
        return True

    def _with_defaults(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for definition in self._operation.variable_definitions or ():
            name = definition.variable.name.value
            if name in variables:
                values[name] = variables[name]
            elif definition.default_value is not None:
                values[name] = getattr(definition.default_value, "value", None)
        return values


def _getter(definition: GraphQLField) -> Callable[[Any], Any]:
    """Return how a field is read off its object: an attribute, or a function of the object alone.

    Raises:
        NotCompilable: a permission guards it, or its resolver wants more than the object.
    """
    declared = definition.extensions.get("strawberry-definition")
    if not isinstance(declared, StrawberryField) or definition.args or definition.extensions.get("guarded"):
        raise NotCompilable("a guard or an argument")
    resolver = declared.base_resolver
    if resolver is None:
        return attrgetter(declared.python_name)
    if resolver.is_async or resolver.info_parameter is not None or resolver.parent_parameter is not None:
        raise NotCompilable("a resolver")
    get: Any = resolver.wrapped_func
    return cast("Callable[[Any], Any]", get)


def _leaf(kind: GraphQLEnumType | GraphQLScalarType) -> Encoder:
    serialize = kind.coerce_output_value if hasattr(kind, "coerce_output_value") else kind.serialize

    def any_leaf(value: Any) -> bytes:
        return _json(serialize(value)) if value is not None else _missing()

    def text(value: Any) -> bytes:
        return _json(value) if type(value) is str else any_leaf(value)

    def whole(value: Any) -> bytes:
        if type(value) is int and -_INT_LIMIT <= value < _INT_LIMIT:
            return b"%d" % value
        return any_leaf(value)

    if kind.name in {"String", "ID"}:
        return text
    return whole if kind.name == "Int" else any_leaf


def _missing() -> bytes:
    raise NotCompilable("a value is missing where one must be")


def _listed(encode: Encoder) -> Encoder:
    def encode_list(values: Any) -> bytes:
        if values is None:
            return _missing()
        return b"[" + b",".join([encode(value) for value in values]) + b"]"

    return encode_list


def _got(get: Callable[[Any], Any], encode: Encoder) -> Encoder:
    return lambda event: encode(get(event))


def _wrapped(prefix: bytes, encode: Encoder, suffix: bytes) -> Encoder:
    return lambda event: prefix + encode(event) + suffix


def _joined(parts: list[bytes | Encoder]) -> Encoder:
    """Return a function that writes the parts one after the other, constant ones next to each other as one."""
    constants: list[bytes] = [b""]
    encoders: list[Encoder] = []
    for part in parts:
        if isinstance(part, bytes):
            constants[-1] += part
        else:
            encoders.append(part)
            constants.append(b"")
    first, rest = constants[0], tuple(zip(encoders, constants[1:], strict=True))

    def encode_object(event: Any) -> bytes:
        written = first
        for encode, constant in rest:
            written += encode(event) + constant
        return written

    return encode_object
