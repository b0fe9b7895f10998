"""How many objects an operation can be answered with, told from its document before anything is resolved.

Pages in pages multiply: without a bound a document of a few lines is answered with millions of objects, and nobody else
is served by the process meanwhile.
"""

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    NamedTypeNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
)

from graph.connections import DEFAULT_SIZE, MAX_SIZE

MAX_OBJECTS = 50_000
LISTED = 10
"""How many objects a list without pages is taken to have."""

Variables = Mapping[str, Any] | None
"""What is given for the variables; None stands for the most that anybody can give."""


class Sizes:
    """Counts what a schema's operations ask for at the most."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._reaching: dict[str, bool] = {}

    def objects(self, document: DocumentNode, operation: OperationDefinitionNode, variables: Variables) -> int:
        """Return how many objects an operation of a valid document can be answered with."""
        if variables is not None:
            variables = _defaults(operation) | {**variables}
        root = self._schema.get_root_type(operation.operation)
        return _Count(self, document, variables).below(operation.selection_set, root, DEFAULT_SIZE)

    def named(self, node: NamedTypeNode | None, otherwise: GraphQLNamedType | None) -> GraphQLNamedType | None:
        """Return the type that a fragment is for."""
        return otherwise if node is None else self._schema.type_map[node.name.value]

    def leads_on(self, kind: GraphQLNamedType) -> bool:
        """Tell whether objects of a type lead to a Node, from where everything can be reached."""
        if not isinstance(kind, GraphQLObjectType):
            return isinstance(kind, GraphQLInterfaceType)
        if kind.name not in self._reaching:
            self._reaching[kind.name] = any(one.name == "Node" for one in kind.interfaces)
            self._reaching[kind.name] |= any(self.leads_on(get_named_type(one.type)) for one in kind.fields.values())
        return self._reaching[kind.name]


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    """Return the numbers that variables are where they are left out."""
    return {
        one.variable.name.value: int(one.default_value.value)
        for one in operation.variable_definitions or ()
        if isinstance(one.default_value, IntValueNode)
    }


class _Count:
    def __init__(self, sizes: Sizes, document: DocumentNode, variables: Variables) -> None:
        self._sizes = sizes
        self._variables = variables
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }

    def below(self, selection_set: SelectionSetNode, kind: GraphQLNamedType | None, page: int) -> int:
        """Return how many objects are selected below one of this type; if it is a connection, `page` is its size."""
        total = 0
        for node in selection_set.selections:
            if isinstance(node, FieldNode):
                total += self._field(node, kind, page)
                continue
            fragment: Any = self._fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            total += self.below(fragment.selection_set, self._sizes.named(fragment.type_condition, kind), page)
        return total

    def _field(self, node: FieldNode, kind: GraphQLNamedType | None, page: int) -> int:
        fields = kind.fields if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) else {}
        field = fields.get(node.name.value)
        if field is None or node.selection_set is None:
            return 0
        inner = get_named_type(field.type)
        given = {one.name.value: one.value for one in node.arguments or ()}
        one = 1 + self.below(node.selection_set, inner, self._page(given))
        if not isinstance(get_nullable_type(field.type), GraphQLList):
            return one
        if "pageInfo" in fields:
            return page * one
        if "ids" in given:
            return self._length(given["ids"]) * one
        return LISTED * one if self._sizes.leads_on(inner) else one

    def _page(self, given: Mapping[str, ValueNode]) -> int:
        return max((self._number(given[name]) for name in ("first", "last") if name in given), default=DEFAULT_SIZE)

    def _number(self, node: ValueNode) -> int:
        value: Any = None
        if isinstance(node, IntValueNode):
            value = int(node.value)
        elif isinstance(node, VariableNode):
            value = MAX_SIZE if self._variables is None else self._variables.get(node.name.value)
        return min(max(value, 0), MAX_SIZE) if isinstance(value, int) else DEFAULT_SIZE

    def _length(self, node: ValueNode) -> int:
        if isinstance(node, ListValueNode):
            return len(node.values)
        value = self._variables.get(node.name.value) if self._variables and isinstance(node, VariableNode) else None
        return len(value) if isinstance(value, list) else MAX_SIZE
