"""A misbehaving provider for clients that are not ours."""

from tests.core.wire.conftest import provider, running_provider

__all__ = ["provider", "running_provider"]
