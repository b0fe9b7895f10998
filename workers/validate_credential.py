"""Asks a provider whether a stored credential works."""

from core.app import App
from core.jobs import ValidateCredential
from core.validation import validate


async def validate_credential(app: App, job: ValidateCredential) -> None:
    """Validate the credential, unless it was changed since the job was written."""
    await validate(app, job.workspace_id, job.credential_id, job.version)
