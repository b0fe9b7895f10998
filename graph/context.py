"""What one operation knows: the app, who asks, and what has been loaded for it."""

from uuid import UUID

import strawberry

from core.access import Viewer
from core.admission import current
from core.app import App
from core.configuration import Configuration
from core.errors import Unauthenticated
from graph.loaders import Loaders


class Context:
    """The context of one operation; never shared with another, so nothing on it grows old."""

    def __init__(self, app: App, viewer: Viewer | None, last_event_id: str | None = None) -> None:
        self.app = app
        self.viewer = viewer
        self.last_event_id = last_event_id
        self._loaders: Loaders | None = None
        self._configurations: dict[UUID, Configuration] = {}

    @property
    def who(self) -> Viewer:
        """Return the viewer.

        Raises:
            Unauthenticated: nobody knows who asks.
        """
        if self.viewer is None:
            raise Unauthenticated("This needs a token: send it as `Authorization: Bearer …`, or in connection_init.")
        return self.viewer

    @property
    def load(self) -> Loaders:
        """Return the loaders, made when they are first asked for: a stream of deltas asks for none."""
        if self._loaders is None:
            self._loaders = Loaders(self.app, self.viewer)
        return self._loaders

    async def configuration(self, workspace_id: UUID) -> Configuration:
        """Return the workspace's configuration, the same one for the whole operation."""
        found = self._configurations.get(workspace_id)
        if found is None:
            membership = self.who.memberships.get(workspace_id)
            version = membership.version if membership is not None else None
            loaded = await current(self.app, await self.app.configurations.get(workspace_id, version))
            found = self._configurations.setdefault(workspace_id, loaded)
        return found

    def changed(self, configuration: Configuration) -> None:
        """Let the rest of the operation see the configuration that a mutation left."""
        self._configurations[configuration.workspace_id] = configuration

    async def look_again(self, token_id: UUID | None = None) -> None:
        """Read anew who asks: a mutation has changed what they belong to, or given them a token."""
        token_id = token_id or self.who.token_id
        viewers = await self.app.identity.viewers([token_id])
        self.viewer = viewers[token_id]
        self._loaders = None

    def renew(self, viewer: Viewer) -> None:
        """Begin anew with who asks now: what is told next is read as it is then."""
        self.viewer = viewer
        self._loaders = None
        self._configurations.clear()

    async def aclose(self) -> None:
        """Forget what was loaded; reads that are under way end by themselves."""
        self._configurations.clear()


Info = strawberry.Info[Context, None]
"""What resolvers are given."""


def make_context(app: App, viewer: Viewer | None, last_event_id: str | None = None) -> Context:
    """Return the context of a new operation; `last_event_id` is how far its client came in a stream that it lost."""
    return Context(app, viewer, last_event_id)
