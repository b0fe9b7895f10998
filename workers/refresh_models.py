"""Reads a provider's own list of models for a workspace."""

import logging

from core.app import App
from core.errors import ModelyardError, ServerUnavailable
from core.jobs import RefreshModels
from core.listing import refresh

log = logging.getLogger(__name__)


async def refresh_models(app: App, job: RefreshModels) -> None:
    """Read the list; one that cannot be read now is asked for again by the timetable."""
    provider = app.catalog.provider(job.provider)
    if provider is None:
        return
    try:
        await refresh(app, job.workspace_id, provider)
    except ServerUnavailable:
        raise
    except ModelyardError as error:
        log.info("the models of %s are not refreshed: %s", job.provider, error.code)
