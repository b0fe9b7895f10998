"""All tables together, for migrations."""

from storage import (  # noqa: F401 - each declares its tables when it is imported
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

__all__ = ["metadata"]
