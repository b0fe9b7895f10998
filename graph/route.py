"""Routes: what a call would do now, without making it."""

from collections.abc import Sequence
from uuid import UUID

import strawberry

from core import model_types as core_types
from core.configuration import Configuration
from core.model_types import ModelType
from core.plan import ModelReference, question
from core.pool_health import with_rests
from core.resolve import Candidate, resolve
from core.resolve import Route as CoreRoute
from graph import links
from graph.context import Context, Info
from graph.links import CredentialLink, PoolMemberLink, QuotaLink
from graph.problems import UserError
from graph.types import object_type, resolved
from graph.values import ModelKey, ProviderType


@object_type
class RouteCandidate:
    """One way to serve a call."""

    configuration: strawberry.Private[Configuration]
    candidate: strawberry.Private[Candidate]
    key: strawberry.Private[ModelKey]

    @property
    def workspace_id(self) -> object:
        """Return the workspace."""
        return self.configuration.workspace_id

    @resolved
    def model(self) -> ModelKey:
        """The model that it would call."""
        return self.key

    @resolved
    def credential(self) -> CredentialLink | None:
        """The credential that it would use; null where none is needed."""
        return links.optional_credential(self.configuration, self.candidate.credential)

    @resolved
    def pool_member(self, info: Info) -> PoolMemberLink | None:
        """The member of a pool that it is; null outside of pools."""
        member = self.candidate.member
        return links.pool_member(info.context, self.configuration, member.id) if member is not None else None

    @resolved
    def usable(self) -> bool:
        """Whether the call would try it."""
        return self.candidate.usable

    @resolved
    def reason(self) -> str:
        """Why it is in, or out."""
        return self.candidate.reason


@object_type
class Route:
    """What a call would do. With a `problem` it would do nothing but fail with it."""

    configuration: strawberry.Private[Configuration]
    routes: strawberry.Private[tuple[CoreRoute, ...]]
    keys: strawberry.Private[tuple[ModelKey, ...]]

    @property
    def workspace_id(self) -> object:
        """Return the workspace."""
        return self.configuration.workspace_id

    @resolved
    def model(self) -> ModelKey | None:
        """The model that would be called first; null where it is not there."""
        known = self.routes[0].model
        return ModelKey.of(known.key) if known is not None else None

    @resolved
    def provider_type(self) -> ProviderType | None:
        """Whose credentials would serve it; null: nobody's."""
        return self.routes[0].provider_type

    @resolved
    def candidates(self) -> list[RouteCandidate]:
        """The ways to serve the call in the order in which they are tried, those of the fallbacks at the end.

        The members of a pool come in its own order: its strategy chooses among them, call by call. A fallback that has none is there once, and says why.
        """
        return [
            RouteCandidate(configuration=self.configuration, candidate=candidate, key=key)
            for number, (route, key) in enumerate(zip(self.routes, self.keys, strict=True))
            for candidate in route.candidates or (_left_out(route) if number else ())
        ]

    @resolved
    def quota(self) -> QuotaLink | None:
        """The quota that it would draw; null where the workspace's own credentials would serve it."""
        found = self.routes[0].quota
        return links.quota(found) if found is not None else None

    @resolved
    def problem(self) -> UserError | None:
        """Why the call would fail; null: it would not."""
        first, *others = self.routes
        may_go_over = first.problem is not None and first.problem.is_of_model
        return None if may_go_over and any(one.problem is None for one in others) else UserError.optional(first.problem)


def _left_out(route: CoreRoute) -> tuple[Candidate, ...]:
    """Return what tells why a fallback cannot serve that has no candidates."""
    problem = route.problem
    assert problem is not None, "what could serve has candidates"
    return (Candidate(credential=None, member=None, usable=False, reason=problem.message),)


async def find_route(
    context: Context,
    configuration: Configuration,
    model_type: ModelType,
    references: Sequence[ModelReference | None],
    credential_id: UUID | None,
) -> Route:
    """Return what a call of the first model would do for this viewer, with the others as fallbacks."""
    found = [
        resolve(
            configuration,
            context.app.catalog,
            question(
                context.who,
                configuration.workspace_id,
                model_type,
                reference,
                credential_id if number == 0 else None,
            ),
        )
        for number, reference in enumerate(references)
    ]
    pools = [configuration.pools.get(one.model.key) if one.model is not None else None for one in found]
    routes = tuple(
        [
            await with_rests(context.app, configuration.workspace_id, one, pool)
            for one, pool in zip(found, pools, strict=True)
        ]
    )
    keys = tuple(_key(context, one, asked, model_type) for one, asked in zip(routes, references, strict=True))
    return Route(configuration=configuration, routes=routes, keys=keys)


def _key(context: Context, route: CoreRoute, asked: ModelReference | None, model_type: ModelType) -> ModelKey:
    """Return the key of a route's model, as it was asked for where there is none."""
    if route.model is not None:
        return ModelKey.of(route.model.key)
    provider, name = (asked.provider, asked.name) if asked is not None else ("", "")
    canonical = context.app.catalog.canonical(provider) or provider
    return ModelKey.of(core_types.ModelKey(provider=canonical, name=name, type=model_type))
