"""All tables together, for migrations."""

from storage import (
    accounts,
    audit,
    budgets,
    credentials,
    invitations,
    invocations,
    members,
    models,
    once,
    orders,
    outbox,
    payment_events,
    pools,
    processes,
    products,
    providers,
    quotas,
    tokens,
    usage,
    workspaces,
)
from storage.base import metadata

MODULES = (
    accounts,
    audit,
    budgets,
    credentials,
    invitations,
    invocations,
    members,
    models,
    once,
    orders,
    outbox,
    payment_events,
    pools,
    processes,
    products,
    providers,
    quotas,
    tokens,
    usage,
    workspaces,
)
"""Every module that declares a table."""

__all__ = ["MODULES", "metadata"]
