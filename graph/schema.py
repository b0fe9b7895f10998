"""The schema: every noun's fields joined, guarded by the permissions, and kept as text in schema.graphql."""

import sys
from pathlib import Path
from typing import cast

import strawberry
from graphql import GraphQLInputObjectType, GraphQLObjectType, GraphQLScalarType, GraphQLSchema, Undefined
from strawberry.schema.config import StrawberryConfig

from graph.completion_events import EVENT_TYPES
from graph.credentials import CredentialMutations, CredentialSubscriptions
from graph.defaults import DefaultMutations
from graph.direct import shorten
from graph.invocations import InvocationMutations
from graph.llm import CompletionMutations, CompletionQuery, CompletionSubscriptions
from graph.members import MemberMutations
from graph.models import ModelMutations
from graph.moderation import ModerationMutations
from graph.nodes import NodeQuery
from graph.orders import OrderMutations, OrderSubscriptions
from graph.permissions import guard
from graph.pools import PoolMutations, PoolSubscriptions
from graph.providers import ProviderMutations, ProviderSubscriptions
from graph.quotas import QuotaMutations, QuotaSubscriptions
from graph.rerank import RerankMutations
from graph.scalars import SCALARS, refuse_nul, say_where
from graph.server import ServerQuery
from graph.speech2text import TranscriptionMutations
from graph.text_embedding import EmbeddingMutations
from graph.tokens import TokenMutations
from graph.tts import SpeechSubscriptions
from graph.types import object_type
from graph.viewer import ViewerQuery
from graph.workspaces import WorkspaceMutations, WorkspaceQuery

SNAPSHOT = Path(__file__).parent.parent / "schema.graphql"


@object_type
class Query(ViewerQuery, WorkspaceQuery, NodeQuery, CompletionQuery, ServerQuery):
    """What can be read. Every field needs a token. One whose permission you lack is null, with an error FORBIDDEN."""


@object_type
class Mutation(
    WorkspaceMutations,
    MemberMutations,
    TokenMutations,
    CredentialMutations,
    ProviderMutations,
    ModelMutations,
    DefaultMutations,
    PoolMutations,
    QuotaMutations,
    OrderMutations,
    CompletionMutations,
    EmbeddingMutations,
    RerankMutations,
    TranscriptionMutations,
    ModerationMutations,
    InvocationMutations,
):
    """What can be changed. Every field but `acceptInvitation` needs a token, takes one `input`, and answers with what changed and `errors`."""


@object_type
class Subscription(
    CompletionSubscriptions,
    SpeechSubscriptions,
    CredentialSubscriptions,
    ProviderSubscriptions,
    PoolSubscriptions,
    QuotaSubscriptions,
    OrderSubscriptions,
):
    """What is streamed. Every field needs a token."""


def build() -> strawberry.Schema:
    """Return the schema, guarded.

    Raises:
        Undeclared: a type has no permission declared.
    """
    built = strawberry.Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=EVENT_TYPES,
        config=StrawberryConfig(scalar_map=SCALARS),
    )
    core_schema = built._schema
    _drop_null_defaults(core_schema)
    refuse_nul(cast("GraphQLScalarType", core_schema.type_map["String"]))
    for kind in core_schema.type_map.values():
        if isinstance(kind, GraphQLScalarType):
            say_where(kind)
    shorten(core_schema)
    guard(core_schema)
    return built


def _drop_null_defaults(core_schema: GraphQLSchema) -> None:
    """Take `= null` off what may be left out: to leave it out says the same."""
    for kind in core_schema.type_map.values():
        if isinstance(kind, GraphQLInputObjectType):
            for given in kind.fields.values():
                if given.default_value is None:
                    given.default_value = Undefined
        elif isinstance(kind, GraphQLObjectType) and not kind.name.startswith("__"):
            for field in kind.fields.values():
                for argument in field.args.values():
                    if argument.default_value is None:
                        argument.default_value = Undefined


schema = build()
"""The schema that is served."""


def main(arguments: list[str]) -> int:
    """Write schema.graphql (`--write`), or tell whether it is what is served (`--check`)."""
    text = schema.as_str() + "\n"
    if arguments == ["--write"]:
        SNAPSHOT.write_text(text, encoding="utf-8")
        return 0
    if arguments != ["--check"]:
        sys.stderr.write("usage: python -m graph.schema --write | --check\n")
        return 2
    if SNAPSHOT.is_file() and SNAPSHOT.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(
        "schema.graphql is not what is served: run `python -m graph.schema --write` and look at the diff.\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
