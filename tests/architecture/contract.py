"""Compares the served schema with the public contract; `python -m tests.architecture.contract` rewrites not_served.txt."""

from pathlib import Path

from graphql import GraphQLSchema, build_schema
from graphql.utilities import DangerousChangeType, find_breaking_changes, find_dangerous_changes

FOLDER = Path(__file__).parent
CONTRACT = FOLDER / "contract.graphql"
NOT_SERVED = FOLDER / "not_served.txt"
SERVED = FOLDER.parent.parent / "schema.graphql"

_HEAD = (
    "# What the contract promises and the served schema does not have yet, one difference a line, in order.\n"
    "# It only shrinks. `python -m tests.architecture.contract` rewrites it.\n"
)


def contract() -> GraphQLSchema:
    """Return the schema that clients may rely on."""
    return build_schema(CONTRACT.read_text("utf-8"))


def served() -> GraphQLSchema:
    """Return the schema that is served."""
    return build_schema(SERVED.read_text("utf-8"))


def missing(promised: GraphQLSchema, given: GraphQLSchema) -> list[str]:
    """Return every difference that would break a client of `promised`; what is added breaks none."""
    broken = [change.description for change in find_breaking_changes(promised, given)]
    altered = [
        change.description
        for change in find_dangerous_changes(promised, given)
        if change.type is DangerousChangeType.ARG_DEFAULT_VALUE_CHANGE
    ]
    return sorted(broken + altered)


def listed() -> list[str]:
    """Return the differences that not_served.txt admits."""
    lines = NOT_SERVED.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def main() -> None:
    """Write not_served.txt as things are now."""
    lines = missing(contract(), served())
    NOT_SERVED.write_text(_HEAD + "".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
