"""All tables together, for migrations."""

from storage import (
    accounts,
    audit,
    credentials,
    invitations,
    invocations,
    members,
    models,
    outbox,
    processes,
    providers,
    tokens,
    workspaces,
)
from storage.base import metadata

MODULES = (
    accounts,
    audit,
    credentials,
    invitations,
    invocations,
    members,
    models,
    outbox,
    processes,
    providers,
    tokens,
    workspaces,
)
"""Every module that declares a table."""

__all__ = ["MODULES", "metadata"]
