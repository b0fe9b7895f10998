"""Use cases of default models: one a type, all set together or none."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from core.access import Permission, Viewer, require, workspace_of
from core.app import App
from core.audit import changes
from core.changing import changing
from core.configuration import Configuration
from core.errors import CredentialInvalid, CredentialUnreadable, InvalidInput
from core.model_types import ModelKey, ModelType
from core.plan import ModelReference
from core.resolve import Request, resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDefault:
    """The model to use where a call of this type names none; None clears it."""

    type: ModelType
    model: ModelReference | None


async def set_default_models(
    app: App, viewer: Viewer, workspace_id: UUID | None, defaults: Sequence[NewDefault]
) -> Configuration:
    """Set the defaults of several types, all or none; each must be an ACTIVE model, its credential refused or not.

    Raises:
        InvalidInput: a type is named twice.
        ModelyardError: why a model cannot be a default, with its place in the input as path.
    """
    workspace_id = workspace_of(viewer, workspace_id)
    require(viewer, workspace_id, Permission.DEFAULT_MANAGE)
    if len({default.type for default in defaults}) < len(defaults):
        raise InvalidInput("A model type is named twice.", path=("defaults",))
    async with changing(app, workspace_id) as change:
        tx, before = change.tx, change.before
        for number, default in enumerate(defaults):
            key = _usable(app, before, default, number)
            await tx.models.put_default(workspace_id, default.type, key)
            await tx.audit.add(
                workspace_id=workspace_id,
                viewer=viewer,
                action="default.set" if key is not None else "default.clear",
                subject=f"Workspace:{workspace_id}",
                summary=f"Set the default {default.type} to {key.provider}/{key.name}"
                if key is not None
                else f"Cleared the default {default.type}",
                changes=changes(**{default.type.value: (_told(before.defaults.get(default.type)), _told(key))}),
            )
    return change.after


def _told(key: ModelKey | None) -> str | None:
    return f"{key.provider}/{key.name}" if key is not None else None


def _usable(app: App, configuration: Configuration, default: NewDefault, number: int) -> ModelKey | None:
    if default.model is None:
        return None
    asked = Request(type=default.type, provider=default.model.provider, name=default.model.name)
    route = resolve(configuration, app.catalog, asked)
    if route.problem is not None and not isinstance(route.problem, CredentialInvalid | CredentialUnreadable):
        route.problem.path = ("defaults", str(number), "model")
        raise route.problem
    assert route.model is not None
    return route.model.key
