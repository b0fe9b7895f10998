"""Decisions: what Modelyard does, with no knowledge of SQL, Redis, GraphQL or ASGI."""
