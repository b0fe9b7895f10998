"""Decisions: what Modelyard does, with no knowledge of SQL, Redis, GraphQL or ASGI."""

VERSION = "0.1.0"
"""The version of Modelyard, the same as in pyproject.toml."""
