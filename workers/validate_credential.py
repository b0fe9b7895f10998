"""Asks a provider whether a stored credential works."""

from core.app import App
from core.credentials import run_validation
from core.jobs import ValidateCredential


async def validate_credential(app: App, job: ValidateCredential) -> None:
    """Validate the credential, unless it was changed since the job was written."""
    await run_validation(app, job.workspace_id, job.credential_id, job.version)
