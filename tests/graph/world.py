"""Two workspaces with everybody who may ask: the principals of the tests of permissions."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from core.access import Role, Viewer
from core.app import App
from core.entities import Account, ApiToken, Member, Workspace
from core.ids import uuid7
from core.secret import hash_secret, new_secret
from graph.context import make_context
from graph.documents import Refused
from graph.execution import Engine, refusal
from graph.schema import schema

ENGINE = Engine(schema)
SECONDS = 20

PRINCIPALS = ("owner", "admin", "editor", "member", "service", "operator", "stranger", "anonymous")


@dataclass(slots=True, kw_only=True)
class World:
    """Workspace `home` with an owner, an admin, an editor, a member and a service token; `away` is the stranger's."""

    app: App
    home: Workspace
    away: Workspace
    hashes: dict[str, bytes] = field(repr=False)
    tokens: Mapping[str, UUID]
    accounts: Mapping[str, UUID]

    async def viewer(self, name: str) -> Viewer | None:
        """Return who a principal is now."""
        if name == "anonymous":
            return None
        found = await self.app.identity.viewer(self.hashes[name])
        assert found is not None, name
        return found

    def know(self, name: str, secret: str) -> None:
        """Let a token that a test has made be asked as by this name."""
        self.hashes[name] = hash_secret(secret)

    async def ask(self, name: str, query: str, /, **variables: Any) -> Any:
        """Return the whole answer to a query or mutation of a principal."""
        context = make_context(self.app, await self.viewer(name))
        try:
            prepared = ENGINE.prepare(query, None, context)
            return msgspec.json.decode(await ENGINE.execute(prepared, variables, context, SECONDS))
        except Refused as refused:
            return msgspec.json.decode(refusal(refused))
        finally:
            await context.aclose()

    async def data(self, name: str, query: str, /, **variables: Any) -> Any:
        """Return the data of an answer that has no errors."""
        answer = await self.ask(name, query, **variables)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    async def change(self, name: str, query: str, /, **given: Any) -> Any:
        """Return the payload of a mutation that has no errors of its own either."""
        (payload,) = (await self.data(name, query, input=given)).values()
        assert payload["errors"] == [], payload["errors"]
        return payload

    async def refused(self, name: str, query: str, /, **given: Any) -> Any:
        """Return the only error of a mutation that changed nothing."""
        (payload,) = (await self.data(name, query, input=given)).values()
        (error,) = payload["errors"]
        assert all(value is None for key, value in payload.items() if key != "errors"), payload
        return error

    async def events(self, name: str, query: str, /, **variables: Any) -> AsyncGenerator[Any, None]:
        """Yield the payloads of a subscription."""
        context = make_context(self.app, await self.viewer(name))
        prepared = ENGINE.prepare(query, None, context)
        async with aclosing(await ENGINE.subscribe(prepared, variables, context)) as batches:
            async for batch in batches:
                for payload in batch:
                    yield msgspec.json.decode(payload)


def codes(answer: Any) -> list[tuple[str, str]]:
    """Return where and how an answer failed: the path and the code of each top-level error."""
    errors = answer.get("errors", ())
    return [(".".join(map(str, error.get("path", ()))), error["extensions"]["code"]) for error in errors]


async def make_world(app: App) -> World:
    """Fill an empty database."""
    now, hashes, tokens, accounts = app.clock.now(), {}, {}, {}
    home, away = (
        Workspace(
            id=uuid7(), name=name.title(), slug=name, key_version=1, config_version=1, created_at=now, updated_at=now
        )
        for name in ("home", "away")
    )
    places = {
        "owner": (home, Role.OWNER),
        "admin": (home, Role.ADMIN),
        "editor": (home, Role.EDITOR),
        "member": (home, Role.MEMBER),
        "stranger": (away, Role.OWNER),
        "operator": (None, Role.OWNER),
    }
    async with app.storage.transaction() as tx:
        for workspace in (home, away):
            await tx.workspaces.insert(workspace)
        for name, (place, role) in places.items():
            account = Account(
                id=uuid7(), name=name, email=f"{name}@test", is_operator=name == "operator", created_at=now
            )
            await tx.accounts.insert(account)
            accounts[name] = account.id
            if place is not None:
                await tx.members.insert(
                    Member(id=uuid7(), workspace_id=place.id, account_id=account.id, role=role, created_at=now)
                )
        for name in (*places, "service"):
            secret = new_secret().reveal()
            token = ApiToken(
                id=uuid7(),
                name=name,
                prefix=secret[:9],
                role=Role.MEMBER if name == "service" else Role.OWNER,
                workspace_id=home.id if name == "service" else None,
                account_id=accounts.get(name),
                allowed_models=None,
                credential_ids=None,
                expires_at=None,
                last_used_at=None,
                revoked_at=None,
                created_at=now,
                created_by=accounts["owner"] if name == "service" else accounts[name],
            )
            hashes[name], tokens[name] = hash_secret(secret), token.id
            await tx.tokens.insert(token, hashes[name])
    return World(app=app, home=home, away=away, hashes=hashes, tokens=tokens, accounts=accounts)
