"""What the workers are asked to do: payloads that carry ids and never secrets."""

from typing import ClassVar
from uuid import UUID

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done once its row is committed. `name` is the worker's function."""

    name: ClassVar[str]

    @property
    def key(self) -> str:
        """Return what makes two jobs of a name the same one; one that still waits is not queued twice."""
        return ":".join(str(value) for value in msgspec.structs.astuple(self))


class ValidateCredential(Job, frozen=True, kw_only=True):
    """Ask the provider whether a credential works. `version` is the credential's when it was asked for."""

    name = "validate_credential"

    workspace_id: UUID
    credential_id: UUID
    version: int


class RotateWorkspaceKey(Job, frozen=True, kw_only=True):
    """Seal a workspace's credentials by its newest data key, and destroy the older ones."""

    name = "rotate_workspace_key"

    workspace_id: UUID


class RefreshModels(Job, frozen=True, kw_only=True):
    """Read a provider's own list of models for a workspace."""

    name = "refresh_models"

    workspace_id: UUID
    provider: str


class ProcessPaymentEvent(Job, frozen=True, kw_only=True):
    """Do what a gateway's event brings. `event_id` is the id of its row."""

    name = "process_payment_event"

    event_id: UUID


JOBS: tuple[type[Job], ...] = (ProcessPaymentEvent, RefreshModels, RotateWorkspaceKey, ValidateCredential)
"""Every job that goes through the outbox; each has a worker function of its name."""
