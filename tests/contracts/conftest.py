"""A misbehaving provider and a client that may reach it."""

from tests.core.wire.conftest import http, provider, running_provider

__all__ = ["http", "provider", "running_provider"]
