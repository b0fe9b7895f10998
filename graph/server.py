"""The installation itself: its version, and the health of its parts."""

from datetime import datetime

import strawberry

from core import VERSION
from core.ports import health as reported
from graph.context import Info
from graph.scalars import BigInt
from graph.types import attribute, object_type, resolved


@object_type
class ComponentHealth:
    """Whether a part of the installation answers."""

    ok: bool = attribute("Whether it answers.")
    latency: float | None = attribute("How long it took to answer, in seconds; null where it does not.")
    engine: str = attribute("What it is.")
    problem: str | None = attribute("Why it does not answer; null where it does.")

    @classmethod
    def of(cls, told: reported.ComponentHealth) -> "ComponentHealth":
        """Return what a port told."""
        return cls(ok=told.ok, latency=told.latency, engine=told.engine, problem=told.problem)


@object_type
class WorkerHealth:
    """One worker, as it last reported itself."""

    name: str = attribute("The worker's name.")
    last_seen_at: datetime = attribute("When it last reported itself.")
    queued: int = attribute("Jobs that wait.")
    ongoing: int = attribute("Jobs that run.")
    complete: BigInt = attribute("Jobs that ended well.")
    failed: BigInt = attribute("Jobs that failed.")
    retried: BigInt = attribute("Jobs that were tried again.")

    @classmethod
    def of(cls, told: reported.WorkerHealth) -> "WorkerHealth":
        """Return what a port told."""
        return cls(
            name=told.name,
            last_seen_at=told.last_seen_at,
            queued=told.queued,
            ongoing=told.ongoing,
            complete=told.complete,
            failed=told.failed,
            retried=told.retried,
        )


@object_type
class Server:
    """This installation."""

    @resolved
    def version(self) -> str:
        """The version of Modelyard that answers."""
        return VERSION

    @resolved
    async def database(self, info: Info) -> ComponentHealth | None:
        """The health of the database."""
        return ComponentHealth.of(await info.context.app.health.database())

    @resolved
    async def redis(self, info: Info) -> ComponentHealth | None:
        """The health of Redis."""
        return ComponentHealth.of(await info.context.app.health.redis())

    @resolved
    async def workers(self, info: Info) -> list[WorkerHealth] | None:
        """The workers that report themselves."""
        return [WorkerHealth.of(one) for one in await info.context.app.health.workers()]


@strawberry.type(name="Query")
class ServerQuery:
    """The installation."""

    @resolved
    def server(self) -> Server:
        """This installation. Its version is open to every token."""
        return Server()
