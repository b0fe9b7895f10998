"""A call of any type besides language models: what is asked, planned, and admitted once for its key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

from core.access import Viewer
from core.admission import admit
from core.app import App
from core.configuration import Configuration
from core.entities import Invocation
from core.metering import NOTHING, Estimate, expected
from core.model_types import ModelType, Usage
from core.once import ended, no_longer_kept, once_of
from core.plan import ModelReference, Step, fitting, question, steps_of, unserved
from core.pool import Tries
from core.provider import ModelCard, Provider
from core.recorder import KEPT_S

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What every caller says besides the request itself; `model` None is the workspace's default of the type."""

    workspace_id: UUID | None = None
    model: ModelReference | None = None
    credential_id: UUID | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a call will try, once it is known that the configuration allows it."""

    configuration: Configuration
    steps: list[Step]

    @property
    def provider(self) -> Provider:
        """Return the provider of every attempt: one model is tried, with one credential after the other."""
        return self.steps[0].provider

    def leave_out(self, check: Callable[[ModelCard], object]) -> None:
        """Leave out the attempts at whose model `check` finds something wrong; raise that if none would be left."""
        self.steps[:] = [step for step, _ in fitting(self.steps, check)]

    def expecting(self, estimate: Estimate) -> "Plan":
        """Return the plan with what an attempt is known to use now."""
        return replace(self, steps=[replace(step, expects=lambda: estimate) for step in self.steps])

    def adapter(self, found: A | None) -> A:
        """Return the provider's adapter of the type.

        Raises:
            InvalidInput: it has none.
        """
        if found is None:
            raise unserved(self.steps[0].key)
        return found


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of call: its models, what its keys are for, and what it gives."""

    model_type: ModelType
    operation: str
    result: type[T]


class Asking(Generic[T]):
    """One request, made at most once for its key. `given` is all that makes a repeat the same."""

    def __init__(
        self,
        app: App,
        viewer: Viewer,
        asked: Asked,
        kind: Kind[T],
        given: object,
        end_user: str | None,
        foreseen: Usage | None = None,
    ) -> None:
        self._app = app
        self._viewer = viewer
        self._asked = asked
        self._kind = kind
        self._end_user = end_user
        self._estimate = expected(foreseen) if foreseen is not None else NOTHING
        what = (replace(asked, workspace_id=None, idempotency_key=None), given)
        self._once = once_of(viewer, kind.operation, asked.idempotency_key, what)

    def _plan(self, configuration: Configuration) -> Plan:
        asked = self._asked
        wanted = question(
            self._viewer, configuration.workspace_id, self._kind.model_type, asked.model, asked.credential_id
        )
        steps = steps_of(self._app.catalog, configuration, wanted, lambda _: self._estimate)
        return Plan(configuration=configuration, steps=steps)

    async def _admit(self, plan: Plan) -> tuple[Invocation, Tries[Step]]:
        workspace_id = plan.configuration.workspace_id
        once = partial(self._once, workspace_id) if self._once is not None else None
        tags, end_user = self._asked.tags, self._end_user
        return await admit(self._app, self._viewer, workspace_id, plan.steps, end_user=end_user, tags=tags, once=once)

    async def _ended(self, invocation_id: UUID) -> Invocation:
        """Return the record of a call that has ended, not so long ago that nobody is told any more how."""
        record = await ended(self._app, self._viewer, invocation_id)
        since = self._app.clock.now() - (record.ended_at or record.started_at)
        if since.total_seconds() > KEPT_S:
            raise no_longer_kept(invocation_id)
        return record

    async def _result(self, invocation_id: UUID) -> T:
        found = await self._app.results.find(invocation_id, self._kind.result)
        if found is None:
            raise no_longer_kept(invocation_id)
        return found
