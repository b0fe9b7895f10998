"""Pools: the members among which one model's calls are spread, and how they stand."""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import strawberry

from core import cooldown as core_cooldown
from core import entities
from core.access import Permission
from core.changes import Change, ChangeKind, Noun
from core.configuration import Configuration
from core.entities import PoolStrategy
from core.errors import ErrorCode, NotFound, Scope
from core.live import Topic, follow
from core.pool_health import MemberHealth, Standing, standing
from core.pools import NewMember, NewPool, PoolConflict, end_cooldown, save_pool, set_pool_enabled
from core.resolve import Candidate, Known, credential_problem, find_model, pool_candidates
from graph import ids, links
from graph.changes import seen, workspace_followed
from graph.connections import Connection, Page, list_page
from graph.context import Context, Info
from graph.links import CredentialLink, ModelLink, WorkspaceLink
from graph.mutations import ERRORS, INPUT, mutation
from graph.pacing import paced
from graph.problems import UserError
from graph.scalars import BigInt
from graph.types import Node, argument, attribute, described, input_type, object_type, resolved, streamed
from graph.values import ModelKeyInput

LOOK_EVERY_S = 1.0
"""How often at most a follower is told of changes of a pool, and of one pool of its counts."""

described(
    PoolStrategy,
    "How a pool chooses among its members.",
    ROUND_ROBIN="One after the other.",
    WEIGHTED="In proportion to the weights, without bursts.",
    LEAST_BUSY="Whoever has the fewest calls under way for its weight.",
    LOWEST_LATENCY="The faster of two by chance, by the time to first token.",
)
described(
    MemberHealth,
    "Whether calls go to a member, and if not, why.",
    HEALTHY="Calls go to it.",
    COOLING_DOWN="It rests after a failure.",
    PROBING="Its rest is over: one call at a time goes to it until one is served.",
    DISABLED="It is switched off, or it is the Default Config and another member's credential.",
    CREDENTIAL_MISSING="It is the Default Config, and no credential is active.",
    CREDENTIAL_INVALID="The provider refuses its credential.",
    CREDENTIAL_UNREADABLE="Its credential cannot be opened.",
)
CooldownScope = described(
    Scope,
    "What a rest covers.",
    name="CooldownScope",
    CREDENTIAL="All calls with the credential.",
    CREDENTIAL_AND_MODEL="Calls of this model with the credential.",
)


@object_type
class Cooldown:
    """The rest of a pool member, or what it is on trial after."""

    scope: CooldownScope = attribute("What it covers.")  # type: ignore[valid-type]
    until: datetime | None = attribute("When it ends; null: when the credential is validated.", default=None)
    remaining: float | None = attribute("How many seconds are left; null where `until` is.", default=None)
    cause: ErrorCode = attribute("The failure that it follows.")
    message: str = attribute("What the failure said.")

    @classmethod
    def of(cls, found: core_cooldown.Cooldown, now: datetime) -> "Cooldown":
        """Return the view of a rest."""
        until = datetime.fromtimestamp(found.until, UTC) if found.until is not None else None
        remaining = max((until - now).total_seconds(), 0.0) if until is not None else None
        return cls(scope=found.scope, until=until, remaining=remaining, cause=found.cause, message=found.message)


@object_type
class PoolMember(Node):
    """One place in a pool."""

    configuration: strawberry.Private[Configuration]
    of_pool: strawberry.Private[entities.Pool]
    candidate: strawberry.Private[Candidate]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace."""
        return self.configuration.workspace_id

    @property
    def member(self) -> entities.PoolMember:
        """Return the member as it is configured."""
        assert self.candidate.member is not None
        return self.candidate.member

    @resolved
    def id(self) -> strawberry.ID:
        """The member's id."""
        return ids.encode("PoolMember", self.workspace_id, self.member.id)

    @resolved
    def pool(self) -> Annotated["Pool", strawberry.lazy("graph.pools")]:
        """The pool."""
        return Pool(configuration=self.configuration, pool=self.of_pool)

    @resolved
    def name(self) -> str:
        """What it is called."""
        return self.member.name

    @resolved
    def enabled(self) -> bool:
        """Whether it is switched on."""
        return self.member.enabled

    @resolved
    def weight(self) -> int:
        """Its share, beside the weights of the others."""
        return self.member.weight

    @resolved
    def credential(self) -> CredentialLink | None:
        """Its credential; for the Default Config the one active now, null where none is."""
        return links.optional_credential(self.configuration, self.candidate.credential)

    @resolved
    def is_default_config(self) -> bool:
        """Whether it stands for whatever credential is active."""
        return self.member.credential_id is None

    @resolved
    async def health(self, info: Info) -> MemberHealth:
        """Whether calls go to it, and if not, why."""
        return (await self._standing(info.context)).health

    @resolved
    async def cooldown(self, info: Info) -> Cooldown | None:
        """Its rest, or what it is on trial after; null: neither."""
        found = (await self._standing(info.context)).cooldown
        return Cooldown.of(found, info.context.app.clock.now()) if found is not None else None

    @resolved
    def problem(self) -> UserError | None:
        """What is wrong with its credential; null: nothing."""
        credential = self.candidate.credential
        return UserError.optional(credential_problem(credential)) if credential is not None else None

    @resolved
    async def in_flight(self, info: Info) -> int:
        """How many calls of all processes go through it now."""
        return (await self._standing(info.context)).counts.in_flight

    @resolved
    async def served(self, info: Info) -> BigInt:
        """How many calls it has served since it is here."""
        return BigInt((await self._standing(info.context)).counts.served)

    @resolved
    async def failed(self, info: Info) -> BigInt:
        """How many calls have failed with it since it is here."""
        return BigInt((await self._standing(info.context)).counts.failed)

    @resolved
    async def last_used_at(self, info: Info) -> datetime | None:
        """When its credential was last used, up to a minute late; null: never."""
        credential = self.candidate.credential
        return await info.context.load.credential_last_used(credential.id) if credential is not None else None

    async def _standing(self, context: Context) -> Standing:
        pool_now = await context.load.pool_now(self.workspace_id, self.of_pool)
        return standing(self.candidate, pool_now, context.app.clock.now())


@object_type
class Pool(Node):
    """The members among which one model's calls are spread, when they are made with the workspace's own credentials."""

    configuration: strawberry.Private[Configuration]
    pool: strawberry.Private[entities.Pool]

    @property
    def workspace_id(self) -> UUID:
        """Return the workspace."""
        return self.configuration.workspace_id

    @resolved
    def id(self) -> strawberry.ID:
        """The pool's id."""
        return pool_id(self.workspace_id, self.pool.id)

    @resolved
    async def workspace(self, info: Info) -> WorkspaceLink:
        """The workspace."""
        return await links.present_workspace(info.context, self.workspace_id)

    @resolved
    def model(self, info: Info) -> ModelLink:
        """The model."""
        return links.model(self.configuration, _known(info.context, self.configuration, self.pool))

    @resolved
    def enabled(self) -> bool:
        """Whether it is switched on."""
        return self.pool.enabled

    @resolved
    def strategy(self) -> PoolStrategy:
        """How it chooses."""
        return self.pool.strategy

    @resolved
    def hedge_percentile(self) -> int | None:
        """When a second member is asked: when the first token is later than this share of the recent ones; null: never."""
        return self.pool.hedge_percentile

    @resolved
    def version(self) -> int:
        """How often people have changed it; see `expectedVersion`."""
        return self.pool.version

    @resolved
    def effective(self, info: Info) -> bool:
        """Whether it chooses: it is switched on and has two usable members. Otherwise the plain credential serves."""
        return pool_candidates(self.configuration, _known(info.context, self.configuration, self.pool))[1]

    @resolved
    def members(self, info: Info) -> list[PoolMember]:
        """Its members, in order."""
        return _members(info.context, self.configuration, self.pool)


def pool_id(workspace_id: UUID, key: UUID) -> strawberry.ID:
    """Return the id of a pool; it names the workspace, so that finding it is one look."""
    return ids.encode("Pool", workspace_id, key)


def pool_view(context: Context, configuration: Configuration, pool: entities.Pool | None) -> Pool | None:
    """Return the view of a pool; None where there is none, or of a model that nobody knows any more."""
    if pool is None or find_model(configuration, context.app.catalog, pool.key) is None:
        return None
    return Pool(configuration=configuration, pool=pool)


def member_view(context: Context, configuration: Configuration, member_id: UUID) -> PoolMember | None:
    """Return the view of a pool's member by its key."""
    for pool in configuration.pools.values():
        if pool_view(context, configuration, pool) is not None:
            for member in _members(context, configuration, pool):
                if member.member.id == member_id:
                    return member
    return None


def members_of_credential(context: Context, configuration: Configuration, credential_id: UUID) -> list[PoolMember]:
    """Return the places in which a credential stands by itself, not as the Default Config."""
    return [
        member
        for pool in configuration.pools.values()
        if pool_view(context, configuration, pool) is not None
        for member in _members(context, configuration, pool)
        if member.member.credential_id == credential_id
    ]


def pool_page(
    context: Context, configuration: Configuration, page: Page, provider: str | None, *, enabled: bool | None
) -> Connection[Pool]:
    """Return a page of the workspace's pools, oldest first."""
    canonical = context.app.catalog.canonical(provider) if provider is not None else None
    found = sorted(
        (
            pool
            for pool in configuration.pools.values()
            if (provider is None or pool.key.provider == canonical)
            and (enabled is None or pool.enabled is enabled)
            and pool_view(context, configuration, pool) is not None
        ),
        key=lambda pool: pool.id,
    )
    return list_page(found, page, lambda one: Pool(configuration=configuration, pool=one), lambda one: (one.id.hex,))


def _known(context: Context, configuration: Configuration, pool: entities.Pool) -> Known:
    found = find_model(configuration, context.app.catalog, pool.key)
    if found is None:
        raise NotFound("There is no such model any more.")
    return found


def _members(context: Context, configuration: Configuration, pool: entities.Pool) -> list[PoolMember]:
    candidates, _ = pool_candidates(configuration, _known(context, configuration, pool))
    return [PoolMember(configuration=configuration, of_pool=pool, candidate=one) for one in candidates]


# ---- mutations


@input_type
class PoolMemberInput:
    """One place in a pool."""

    credential_id: strawberry.ID | None = attribute(
        "The credential; left out, the Default Config: whatever is active. That stands in a pool once at most.",
        default=None,
    )
    name: str | None = attribute("At most 64 characters; left out, the credential's name.", default=None)
    enabled: bool = attribute("Whether it is switched on.", default=True)
    weight: int = attribute("Its share beside the others', 1 to 1,000.", default=1)

    def member(self, number: int) -> NewMember:
        """Return what is asked for."""
        path = ("members", str(number), "credentialId")
        return NewMember(
            credential_id=ids.given_credential(self.credential_id, path) if self.credential_id is not None else None,
            name=self.name,
            enabled=self.enabled,
            weight=self.weight,
        )


@input_type
class SavePoolInput:
    """The whole pool of a model; what is there is replaced."""

    workspace_id: strawberry.ID | None = attribute(
        "The workspace; left out, the token's, or the only one that your account belongs to.", default=None
    )
    model: ModelKeyInput = attribute("The model.")
    enabled: bool = attribute("Whether it is switched on, which needs two enabled members.")
    strategy: PoolStrategy = attribute("How it chooses.", default=PoolStrategy.ROUND_ROBIN)
    hedge_percentile: int | None = attribute("From 50 to 99; see `Pool.hedgePercentile`.", default=None)
    members: list[PoolMemberInput] = attribute("Its members in order, at most 50.")
    expected_version: int | None = attribute(
        "The version that is to be replaced, 0 for none; another one is a CONFLICT, with the current pool. Left out, any.",
        default=None,
    )


@input_type
class SetPoolEnabledInput:
    """Whether a pool chooses."""

    id: strawberry.ID = attribute("The pool's id.")
    enabled: bool = attribute("Whether it is switched on, which needs two enabled members.")


@input_type
class EndCooldownInput:
    """Whose rest is to end."""

    member_id: strawberry.ID = attribute("The member's id.")


@object_type
class PoolPayload:
    """What came of a change of a pool."""

    pool: Pool | None = attribute(
        "The pool as it is now; after a CONFLICT as somebody else left it, null after another failure.", default=None
    )
    errors: list[UserError] = attribute(ERRORS)


@strawberry.type(name="Mutation")
class PoolMutations:
    """Changes of pools."""

    @mutation(PoolPayload)
    async def save_pool(self, info: Info, input: Annotated[SavePoolInput, INPUT]) -> PoolPayload:
        """Replaces the whole pool of a model at once. Needs POOL_MANAGE."""
        context = info.context
        new = NewPool(
            key=input.model.key(),
            enabled=input.enabled,
            strategy=input.strategy,
            members=[member.member(number) for number, member in enumerate(input.members)],
            hedge_percentile=input.hedge_percentile,
            expected_version=input.expected_version,
            workspace_id=ids.optional_uuid(input.workspace_id, "Workspace", ("workspaceId",)),
        )
        try:
            configuration, pool = await save_pool(context.app, context.who, new)
        except PoolConflict as conflict:
            current = pool_view(context, conflict.configuration, conflict.current)
            return PoolPayload(pool=current, errors=[UserError.of(conflict)])
        return _payload(context, configuration, pool)

    @mutation(PoolPayload)
    async def set_pool_enabled(self, info: Info, input: Annotated[SetPoolEnabledInput, INPUT]) -> PoolPayload:
        """Switches a pool on or off; off, it is kept, and the plain credential serves. Needs POOL_MANAGE."""
        context, place = info.context, ids.given_pair(input.id, "Pool")
        return _payload(context, *await set_pool_enabled(context.app, context.who, *place, enabled=input.enabled))

    @mutation(PoolPayload)
    async def end_cooldown(self, info: Info, input: Annotated[EndCooldownInput, INPUT]) -> PoolPayload:
        """Ends the rest of a member, of its credential too: the next call is a trial. Needs POOL_MANAGE."""
        context, place = info.context, ids.given_pair(input.member_id, "PoolMember", ("memberId",))
        return _payload(context, *await end_cooldown(context.app, context.who, *place))


def _payload(context: Context, configuration: Configuration, pool: entities.Pool) -> PoolPayload:
    context.changed(configuration)
    return PoolPayload(pool=pool_view(context, configuration, pool), errors=[])


# ---- changes as they happen


@object_type
class PoolChange:
    """What happened to a pool."""

    kind: ChangeKind = attribute("What happened.")
    id: strawberry.ID = attribute("The pool's id.")
    pool: Pool | None = attribute("The pool as it is now; null when it is gone.", default=None)


@strawberry.type(name="Subscription")
class PoolSubscriptions:
    """Changes of pools."""

    @streamed
    async def pool_changed(
        self,
        info: Info,
        workspace_id: Annotated[
            strawberry.ID | None,
            argument(
                "The workspace; left out, the pool's, else the token's, or the only one that your account belongs to."
            ),
        ] = None,
        pool_id: Annotated[
            strawberry.ID | None,
            argument("Only this pool: it comes first, as CURRENT, and again when its counts have changed."),
        ] = None,
    ) -> AsyncGenerator[PoolChange, None]:
        """Streams changes of pools: what people change, who rests and who is back; of one pool its counts too.

        Each pool comes once a second at most, then as it is by then. Ends after DELETED where one pool is followed; with an error when access
        ends, or when changes may have been missed: subscribe again. Needs POOL_READ.
        """
        context = info.context
        place = ids.given_pair(pool_id, "Pool", ("poolId",)) if pool_id is not None else None
        given = ids.optional_uuid(workspace_id, "Workspace", ("workspaceId",))
        topic = Topic(
            workspace_id=workspace_followed(context, given, place[0] if place is not None else None),
            noun=Noun.POOL,
            permission=Permission.POOL_READ,
            key=str(place[1]) if place is not None else None,
        )
        news = follow(context.app, context.who, topic)
        if place is not None:
            configuration = await context.configuration(topic.workspace_id)
            if topic.workspace_id != place[0] or _by_id(configuration, place[1]) is None:
                raise NotFound("There is no such pool, or it is not one of yours.", path=("poolId",))
        counts = _Counts(context, place)
        return paced(seen(context, news, _pool_change), LOOK_EVERY_S, counts.changed, counts.told)


async def _pool_change(context: Context, change: Change) -> PoolChange | None:
    configuration, key = await context.configuration(change.workspace_id), UUID(change.key)
    found = pool_view(context, configuration, _by_id(configuration, key))
    kind = ChangeKind.DELETED if found is None and change.kind is ChangeKind.CURRENT else change.kind
    if found is None and kind is not ChangeKind.DELETED:
        return None  # it is gone by now, which is told next
    return PoolChange(kind=kind, id=pool_id(change.workspace_id, key), pool=found)


class _Counts:
    """How the calls of one followed pool were counted when it was told of last; of no pool there is nothing to count."""

    def __init__(self, context: Context, place: tuple[UUID, UUID] | None) -> None:
        self._context = context
        self._place = place
        self._told: Sequence[object] = ()

    async def changed(self) -> PoolChange | None:
        """Return the pool where its counts are others now."""
        if self._place is None or await _counts(self._context, self._place) == self._told:
            return None
        return await _pool_change(self._context, _change_of(self._place))

    async def told(self) -> None:
        """Take note of the counts as they are told."""
        if self._place is not None:
            self._told = await _counts(self._context, self._place)


def _change_of(place: tuple[UUID, UUID]) -> Change:
    return Change(workspace_id=place[0], noun=Noun.POOL, key=str(place[1]))


async def _counts(context: Context, place: tuple[UUID, UUID]) -> Sequence[object]:
    """Return how the members of a pool stand now, whoever has told of it."""
    configuration = await context.configuration(place[0])
    pool = pool_view(context, configuration, _by_id(configuration, place[1]))
    if pool is None:
        return ()
    found, now = await context.load.pool_now(place[0], pool.pool), context.app.clock.now()
    return [standing(one.candidate, found, now) for one in _members(context, configuration, pool.pool)]


def _by_id(configuration: Configuration, key: UUID) -> entities.Pool | None:
    return next((pool for pool in configuration.pools.values() if pool.id == key), None)
