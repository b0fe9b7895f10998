"""Seals a workspace's credentials by its newest key."""

from core.app import App
from core.jobs import RotateWorkspaceKey
from core.keys import seal_anew


async def rotate_workspace_key(app: App, job: RotateWorkspaceKey) -> None:
    """Seal what older keys seal, and destroy them; a run that was cut short is gone on with."""
    await seal_anew(app, job.workspace_id)
