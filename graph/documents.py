"""Documents of clients: parsed, measured and validated once, then kept by their text."""

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    NoFragmentCyclesRule,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
)
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from graph.sizes import MAX_OBJECTS, Sizes

MAX_TOKENS = 2000
MAX_ERRORS = 5
KEPT_DOCUMENTS = 1000
KEPT_CHARACTERS = 16_384
KEPT_TOKENS = 150_000
"""The most tokens of all kept documents together: a token's part of a tree takes some 400 bytes."""

_RULES = (*specified_rules, MaybeNullValidationRule, OneOfInputValidationRule)

_CIRCLES = (NoFragmentCyclesRule,)

LIMITS = {"depth": 15, "fields": 400, "aliases": 60, "directives": 60, "root fields": 20, "fragments": 60}
"""The most of each that one operation may have, its fragments expanded."""

INTROSPECTION_DEPTH = 45
MAX_REPEATS = 60
"""How often a field may stand at one place: validation compares each with each of the others, and all below them."""

BILLABLE = frozenset({"complete", "embed", "rerank", "transcribe", "moderate", "completion", "speech"})
"""Root fields of which a document has at most one, so that aliases cannot multiply charges."""

TOO_LARGE = "OPERATION_TOO_LARGE"
_ENOUGH = 10**9


class Refused(Exception):
    """A request that never reaches a resolver. `errors` say why."""

    def __init__(self, *errors: GraphQLError) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


@dataclass(slots=True)
class Checked:
    """A document that may be executed, and what was made of it for later."""

    document: DocumentNode
    introspects: bool
    is_billable: bool
    is_large: bool
    compiled: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """One operation of a checked document."""

    checked: Checked
    operation: OperationDefinitionNode

    @property
    def document(self) -> DocumentNode:
        """Return the whole document."""
        return self.checked.document

    @property
    def name(self) -> str | None:
        """Return the operation's name."""
        return self.operation.name.value if self.operation.name else None

    @property
    def is_subscription(self) -> bool:
        """Tell whether the answer is a stream."""
        return self.operation.operation is OperationType.SUBSCRIPTION

    @property
    def is_mutation(self) -> bool:
        """Tell whether the operation changes something."""
        return self.operation.operation is OperationType.MUTATION


class Documents:
    """The documents of a schema, the last used ones kept; what was refused is kept too, and what may hold a secret not."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._kept: OrderedDict[str, tuple[Checked | Refused, int]] = OrderedDict()
        self._tokens = 0
        self._sizes = Sizes(schema)

    def prepare(self, query: str, operation_name: str | None) -> Prepared:
        """Return the operation to execute.

        Raises:
            Refused: syntax, limits or validation; or the document has no operation of that name, or several.
        """
        kept = self._kept.get(query)
        if kept is not None:
            self._kept.move_to_end(query)
            found = kept[0]
        else:
            found, tokens = self._check(query)
            self._keep(query, found, tokens)
        if isinstance(found, Refused):
            raise Refused(*found.errors)
        return Prepared(found, _operation(found.document, operation_name))

    def _keep(self, query: str, found: Checked | Refused, tokens: int) -> None:
        if len(query) > KEPT_CHARACTERS or ('"' in query and "mutation" in query):
            return  # what a mutation is given in its own text may be a secret
        self._kept[query] = found, tokens
        self._tokens += tokens
        while len(self._kept) > KEPT_DOCUMENTS or self._tokens > KEPT_TOKENS:
            _, (_, fewer) = self._kept.popitem(last=False)
            self._tokens -= fewer

    def _check(self, query: str) -> tuple[Checked | Refused, int]:
        """Return what became of a document, and how many tokens it has."""
        try:
            document = parse(query, max_tokens=MAX_TOKENS)
        except GraphQLError as error:
            is_long = f"more than {MAX_TOKENS} tokens" in error.message
            return Refused(_too_large("tokens", f"{MAX_TOKENS:,}") if is_long else error), 0
        except RecursionError:
            return Refused(_too_large("levels of nesting", "200")), 0
        return self._judged(document), document.token_count or MAX_TOKENS

    def _judged(self, document: DocumentNode) -> Checked | Refused:
        names = _root_names(document)
        introspects = not names.isdisjoint({"__schema", "__type"})
        measuring = _Measuring(document)
        over = _over_limits(document, measuring, LIMITS | {"depth": INTROSPECTION_DEPTH} if introspects else LIMITS)
        if over:
            return Refused(*over)
        rules = _CIRCLES if measuring.is_circular else _RULES
        errors = validate(self._schema, document, rules, max_errors=MAX_ERRORS, hide_suggestions=True)
        if errors:
            return Refused(*errors)
        operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
        is_large = any(self._sizes.objects(document, one, None) > MAX_OBJECTS for one in operations)
        return Checked(document, introspects, not names.isdisjoint(BILLABLE), is_large)

    def check_size(self, prepared: Prepared, variables: Mapping[str, Any] | None) -> None:
        """Let an operation pass that can be answered with no more than MAX_OBJECTS objects.

        Raises:
            Refused: it can be answered with more, given these variables.
        """
        if not prepared.checked.is_large:
            return
        if self._sizes.objects(prepared.document, prepared.operation, variables or {}) > MAX_OBJECTS:
            problem = f"it can be answered with over {MAX_OBJECTS:,} objects, as pages within pages multiply"
            raise Refused(
                GraphQLError(
                    f"The operation is too large: {problem}. Ask for smaller pages.",
                    extensions={"code": TOO_LARGE, "limit": "objects"},
                )
            )


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    if name is None and len(operations) == 1:
        return operations[0]
    if name is None:
        problem = (
            "several operations: say by `operationName` which is meant" if operations else "no operation to execute"
        )
        raise Refused(GraphQLError(f"The document has {problem}."))
    for operation in operations:
        if operation.name is not None and operation.name.value == name:
            return operation
    raise Refused(GraphQLError(f"The document has no operation named {name!r}."))


@dataclass(frozen=True, slots=True)
class Measure:
    """What a selection amounts to with its fragments expanded."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0
    directives: int = 0

    def beside(self, other: "Measure") -> "Measure":
        """Return the two as siblings."""
        return Measure(
            max(self.depth, other.depth),
            min(_ENOUGH, self.fields + other.fields),
            min(_ENOUGH, self.aliases + other.aliases),
            min(_ENOUGH, self.directives + other.directives),
        )


class _Measuring:
    """Measures each fragment once, so that the cost is linear in the document however fragments nest."""

    def __init__(self, document: DocumentNode) -> None:
        self.fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._known: dict[str, Measure] = {}
        self._open: set[str] = set()
        self.is_circular = False

    def selection(self, selection_set: SelectionSetNode | None) -> Measure:
        total = Measure()
        for node in selection_set.selections if selection_set is not None else ():
            directives = len(node.directives or ())
            if isinstance(node, FragmentSpreadNode):
                inner = self._fragment(node.name.value)
                total = total.beside(Measure(inner.depth, inner.fields, inner.aliases, inner.directives + directives))
                continue
            inner = self.selection(getattr(node, "selection_set", None))
            field_ = isinstance(node, FieldNode)
            alias = 1 if isinstance(node, FieldNode) and node.alias is not None else 0
            total = total.beside(
                Measure(
                    inner.depth + field_, inner.fields + field_, inner.aliases + alias, inner.directives + directives
                )
            )
        return total

    def repeats(self, selection_sets: Sequence[SelectionSetNode]) -> int:
        """Return how often, at the most, one field stands at one place.

        For documents without circles, whose fields have been found to be not too many: each is looked at.
        """
        found: Counter[str] = Counter()
        below: dict[str, list[SelectionSetNode]] = {}
        waiting = list(selection_sets)
        while waiting:
            for node in waiting.pop().selections:
                if isinstance(node, FieldNode):
                    name = (node.alias or node.name).value
                    found[name] += 1
                    if node.selection_set is not None:
                        below.setdefault(name, []).append(node.selection_set)
                elif isinstance(node, FragmentSpreadNode):
                    if self._fragment(node.name.value).fields:
                        waiting.append(self.fragments[node.name.value].selection_set)
                else:
                    waiting.append(node.selection_set)  # type: ignore[attr-defined]
        return max([*found.values(), *(self.repeats(sets) for sets in below.values())], default=0)

    def root_names(self, selection_set: SelectionSetNode) -> Iterator[str]:
        """Yield the names of the root fields, a fragment's once for each name that it is met under."""
        seen: set[str] = set()
        waiting: list[SelectionSetNode] = [selection_set]
        while waiting:
            for node in waiting.pop().selections:
                if isinstance(node, FieldNode):
                    yield node.name.value
                elif isinstance(node, FragmentSpreadNode):
                    name = node.name.value
                    if name in self.fragments and name not in seen:
                        seen.add(name)
                        waiting.append(self.fragments[name].selection_set)
                else:
                    waiting.append(node.selection_set)  # type: ignore[attr-defined]

    def _fragment(self, name: str) -> Measure:
        if name in self._known:
            return self._known[name]
        if name not in self.fragments or name in self._open:
            self.is_circular |= name in self._open
            return Measure()  # unknown or in a circle: validation says so
        self._open.add(name)
        fragment = self.fragments[name]
        inner = self.selection(fragment.selection_set)
        self._open.discard(name)
        self._known[name] = Measure(
            inner.depth, inner.fields, inner.aliases, inner.directives + len(fragment.directives or ())
        )
        return self._known[name]


def _root_names(document: DocumentNode) -> set[str]:
    measuring = _Measuring(document)
    return {
        name
        for operation in document.definitions
        if isinstance(operation, OperationDefinitionNode)
        for name in measuring.root_names(operation.selection_set)
    }


def _over_limits(document: DocumentNode, measuring: _Measuring, limits: Mapping[str, int]) -> Sequence[GraphQLError]:
    """Return which limits the document passes; fragments that no operation uses are validated too, so they count."""
    definitions = [
        one for one in document.definitions if isinstance(one, OperationDefinitionNode | FragmentDefinitionNode)
    ]
    for definition in definitions:
        measure = measuring.selection(definition.selection_set)
        found = {
            "depth": measure.depth,
            "fields": measure.fields,
            "aliases": measure.aliases,
            "directives": measure.directives + len(definition.directives or ()),
            "fragments": len(measuring.fragments),
        }
        roots: list[str] = []
        if isinstance(definition, OperationDefinitionNode):
            roots = list(measuring.root_names(definition.selection_set))
            found["root fields"] = len(roots)
        over = [_too_large(name, str(limits[name])) for name, size in found.items() if size > limits[name]]
        if over:
            return over
        if sum(name in BILLABLE for name in roots) > 1:
            return [_too_large("billable root field", "1")]
    if not measuring.is_circular and any(
        measuring.repeats([definition.selection_set]) > MAX_REPEATS for definition in definitions
    ):
        return [_too_large("repeats of one field", str(MAX_REPEATS))]
    return ()


def _too_large(what: str, limit: str) -> GraphQLError:
    return GraphQLError(
        f"The operation is too large: its {what} may be at most {limit}. Split it.",
        extensions={"code": TOO_LARGE, "limit": what},
    )
