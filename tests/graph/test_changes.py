"""What is followed: changes from every process, as the viewer may see them at that moment, ended clearly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import update

from core.access import Role
from core.changes import Change, Noun, channel_of
from core.followers import Follower
from core.jobs import ValidateCredential
from core.live import tell
from core.watch import check_access
from graph import ids
from graph.documents import Refused
from storage.members import members
from storage.redis import absolute
from storage.resources import open_app
from storage.transaction import SqlStorage
from tests.graph.world import World, codes
from tests.waiting import LIMIT_S
from workers.validate_credential import validate_credential

CREDENTIALS = """subscription ($workspaceId: ID, $credentialId: ID) {
  credentialChanged(workspaceId: $workspaceId, credentialId: $credentialId) {
    kind id credential { name status isActive problem { code } } } }"""
PROVIDERS = """subscription ($workspaceId: ID, $provider: String) {
  providerChanged(workspaceId: $workspaceId, provider: $provider) {
    kind id provider { name customStatus activeCredential { name } } } }"""
NAMES = "subscription ($provider: String) { providerChanged(provider: $provider) { kind provider { name } } }"
CREATE = """mutation ($input: CreateCredentialInput!) { createCredential(input: $input) {
  credential { id name status } errors { code message path } } }"""
ACTIVATE = """mutation ($input: ActivateCredentialInput!) { activateCredential(input: $input) {
  credential { id } errors { code path } } }"""
DELETE = """mutation ($input: DeleteCredentialInput!) { deleteCredential(input: $input) { deletedId errors { code path } } }"""
REVOKE = (
    """mutation ($input: RevokeApiTokenInput!) { revokeApiToken(input: $input) { apiToken { id } errors { code } } }"""
)


class Following:
    """A subscription that has begun: its events one by one, each waited for at most LIMIT_S."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self.waiting: asyncio.Future[Any] = asyncio.ensure_future(anext(events))

    async def next(self) -> Any:
        """Return the next event's payload."""
        async with asyncio.timeout(LIMIT_S):
            payload = await self.waiting
        self.waiting = asyncio.ensure_future(anext(self._events))
        return payload

    async def change(self) -> Any:
        """Return the next change."""
        payload = await self.next()
        assert "errors" not in payload, payload
        (change,) = payload["data"].values()
        return change

    async def is_over(self) -> bool:
        """Tell whether the stream has completed."""
        with pytest.raises(StopAsyncIteration):
            await self.next()
        return True


@asynccontextmanager
async def following(world: World, principal: str, query: str, **variables: Any) -> AsyncIterator[Following]:
    """Follow, with the listener in place."""
    events = world.events(principal, query, **variables)
    followed = Following(events)
    async with Redis.from_url(absolute(world.app.settings.redis_url)) as redis, asyncio.timeout(LIMIT_S):
        while not followed.waiting.done() and (await redis.pubsub_numsub(channel_of(world.home.id)))[0][1] == 0:
            await asyncio.sleep(0.01)
    try:
        yield followed
    finally:
        followed.waiting.cancel()
        await asyncio.gather(followed.waiting, return_exceptions=True)
        await events.aclose()


async def echo(world: World, name: str, principal: str = "owner", **more: Any) -> Any:
    """Create a credential of the built-in provider and return it."""
    values = [{"field": "prefix", "value": "so"}]
    made = await world.change(principal, CREATE, provider="echo", name=name, values=values, **more)
    return made["credential"]


async def test_a_followed_credential_comes_first_and_then_each_change_from_another_process(world: World) -> None:
    first = await echo(world, "first")
    async with (
        open_app(world.app.settings) as other,
        following(world, "admin", CREDENTIALS, credentialId=first["id"]) as followed,
    ):
        elsewhere = replace(world, app=other)
        current = await followed.change()
        second = await echo(elsewhere, "second")
        await elsewhere.change("owner", ACTIVATE, id=second["id"])
        updated = await followed.change()
        await elsewhere.change("owner", DELETE, id=first["id"])
        deleted = await followed.change()

        assert current == {
            "kind": "CURRENT", "id": first["id"],
            "credential": {"name": "first", "status": "VALID", "isActive": True, "problem": None},
        }  # fmt: skip
        assert (updated["kind"], updated["credential"]["isActive"]) == ("UPDATED", False)
        assert deleted == {"kind": "DELETED", "id": first["id"], "credential": None}
        assert await followed.is_over()


async def test_all_credentials_of_a_workspace_are_followed_without_an_id(world: World) -> None:
    async with following(world, "owner", CREDENTIALS) as followed:
        made = await echo(world, "first")
        created = await followed.change()
        await world.change("owner", DELETE, id=made["id"])
        deleted = await followed.change()

    assert (created["kind"], created["id"], created["credential"]["isActive"]) == ("CREATED", made["id"], True)
    assert (deleted["kind"], deleted["id"]) == ("DELETED", made["id"])


async def test_validating_is_seen_before_its_outcome(world: World) -> None:
    made = await echo(world, "later", verify=False)
    credential_id = ids.given_credential(made["id"])
    async with (
        open_app(world.app.settings) as worker,
        following(world, "owner", CREDENTIALS, credentialId=made["id"]) as followed,
    ):
        current = await followed.change()
        job = ValidateCredential(workspace_id=world.home.id, credential_id=credential_id, version=1)
        await validate_credential(worker, job)
        seen = [await followed.change(), await followed.change()]

    assert current["credential"]["status"] == "UNVERIFIED"
    assert [one["credential"]["status"] for one in seen] == ["VALIDATING", "VALID"]


async def test_news_that_come_late_are_left_out(world: World) -> None:
    made = await echo(world, "main")
    key = str(ids.given_credential(made["id"]))

    def changed(version: int, status: str) -> Change:
        return Change(workspace_id=world.home.id, noun=Noun.CREDENTIAL, key=key, version=version, status=status)

    async with following(world, "owner", CREDENTIALS, credentialId=made["id"]) as followed:
        await followed.change()
        for change in (changed(8, "VALID"), changed(7, "VALIDATING"), changed(0, "VALID"), changed(8, "VALIDATING")):
            await tell(world.app, change)
        seen = [await followed.change() for _ in range(3)]

    assert [one["credential"]["status"] for one in seen] == ["VALID", "VALID", "VALIDATING"]


async def test_a_provider_changes_with_its_credentials_and_shows_what_each_viewer_may_see(world: World) -> None:
    async with (
        following(world, "owner", PROVIDERS, provider="Echo") as full,
        following(world, "member", NAMES, provider="echo") as plain,
        following(world, "member", NAMES, provider="openai") as other,
    ):
        first = [await full.change(), await plain.change()]
        await other.change()
        await echo(world, "main")
        then = [await full.change(), await plain.change()]
        await asyncio.sleep(0.1)

        assert not other.waiting.done(), "another provider has not changed"
    assert [one["kind"] for one in first] == ["CURRENT", "CURRENT"]
    assert then[0]["provider"] == {"name": "echo", "customStatus": "ACTIVE", "activeCredential": {"name": "main"}}
    assert then[1] == {"kind": "UPDATED", "provider": {"name": "echo"}}


async def test_who_loses_a_permission_no_longer_sees_what_needs_it(world: World) -> None:
    async with following(world, "admin", PROVIDERS, provider="echo") as followed:
        await followed.change()
        await _demote(world, "admin")
        await echo(world, "secret name")
        payload = await followed.next()

    assert payload["data"]["providerChanged"]["provider"]["activeCredential"] is None
    assert codes(payload) == [("providerChanged.provider.activeCredential", "FORBIDDEN")]


@pytest.mark.parametrize(("ending", "code"), [("revoked", "UNAUTHENTICATED"), ("demoted", "FORBIDDEN")])
@pytest.mark.parametrize("noticed", ["with the next change", "by the watch"])
async def test_following_ends_with_access(world: World, ending: str, code: str, noticed: str) -> None:
    async with following(world, "admin", CREDENTIALS) as followed:
        if ending == "revoked":
            await world.ask("admin", REVOKE, input={"id": ids.encode("ApiToken", world.tokens["admin"])})
        else:
            await _demote(world, "admin")
        if noticed == "by the watch":
            await check_access(world.app)
        else:
            await echo(world, "unseen")
        payload = await followed.next()

        assert codes(payload) == [("", code)]
        assert "unseen" not in str(payload)
        assert await followed.is_over()
    assert list(world.app.running.followers) == []


@pytest.mark.parametrize(
    ("principal", "query", "given", "code"),
    [
        ("member", CREDENTIALS, {}, "FORBIDDEN"),
        ("editor", CREDENTIALS, {}, "FORBIDDEN"),
        ("service", CREDENTIALS, {}, "FORBIDDEN"),
        ("operator", CREDENTIALS, {"workspaceId": "home"}, "FORBIDDEN"),
        ("operator", PROVIDERS, {"workspaceId": "home"}, "FORBIDDEN"),
        ("operator", PROVIDERS, {}, "INVALID_INPUT"),
        ("stranger", CREDENTIALS, {"workspaceId": "home"}, "NOT_FOUND"),
        ("stranger", PROVIDERS, {"workspaceId": "home"}, "NOT_FOUND"),
        ("anonymous", PROVIDERS, {"workspaceId": "home"}, "UNAUTHENTICATED"),
        ("owner", CREDENTIALS, {"credentialId": "garbage"}, "NOT_FOUND"),
        ("owner", PROVIDERS, {"provider": "nothing"}, "NOT_FOUND"),
        ("owner", PROVIDERS, {"workspaceId": "garbage"}, "NOT_FOUND"),
    ],
)
async def test_what_may_not_be_followed_fails_before_the_first_event(
    world: World, principal: str, query: str, given: dict[str, str], code: str
) -> None:
    home = ids.encode("Workspace", world.home.id)
    given = {name: home if value == "home" else value for name, value in given.items()}

    assert await _refusal(world, principal, query, **given) == code
    assert list(world.app.running.followers) == []


async def test_a_foreign_credential_is_as_unknown_as_one_that_is_gone(world: World) -> None:
    made = await echo(world, "mine")
    await world.change("owner", DELETE, id=(gone := await echo(world, "gone"))["id"])
    away = ids.encode("Workspace", world.away.id)

    assert await _refusal(world, "stranger", CREDENTIALS, credentialId=made["id"]) == "NOT_FOUND"
    assert await _refusal(world, "stranger", CREDENTIALS, workspaceId=away, credentialId=made["id"]) == "NOT_FOUND"
    assert await _refusal(world, "owner", CREDENTIALS, credentialId=gone["id"]) == "NOT_FOUND"


async def test_following_ends_clearly_when_news_may_have_been_missed(world: World) -> None:
    async with following(world, "owner", PROVIDERS, provider="echo") as followed:
        await followed.change()
        async with Redis.from_url(absolute(world.app.settings.redis_url)) as redis:
            await redis.client_kill_filter(_type="pubsub")
        payload = await followed.next()

        assert codes(payload) == [("", "SERVER_UNAVAILABLE")]
        assert payload["errors"][0]["extensions"]["retryable"] is True
        assert await followed.is_over()


async def test_following_ends_when_the_process_stops(world: World) -> None:
    async with following(world, "owner", PROVIDERS, provider="echo") as followed:
        await followed.change()
        world.app.running.close()
        payload = await followed.next()

    assert codes(payload) == [("", "SERVER_UNAVAILABLE")]
    assert await _refusal(world, "owner", PROVIDERS) == "SERVER_UNAVAILABLE"


async def test_leaving_leaves_no_listener_behind(world: World) -> None:
    async with following(world, "owner", CREDENTIALS):
        assert [type(one) for one in world.app.running.followers] == [Follower]

    assert list(world.app.running.followers) == []
    async with Redis.from_url(absolute(world.app.settings.redis_url)) as redis, asyncio.timeout(LIMIT_S):
        while (await redis.pubsub_numsub(channel_of(world.home.id)))[0][1]:
            await asyncio.sleep(0.01)


async def _refusal(world: World, principal: str, query: str, **variables: Any) -> str:
    """Return the code with which a subscription is refused before its first event."""
    with pytest.raises(Refused) as refused:
        await anext(world.events(principal, query, **variables))
    (error,) = refused.value.errors
    code: str = error.original_error.code.value  # type: ignore[union-attr]
    return code


async def _demote(world: World, name: str) -> None:
    """Make a principal a MEMBER."""
    storage = world.app.storage
    assert isinstance(storage, SqlStorage)
    async with storage.connect() as connection:
        statement = update(members).where(members.c.account_id == world.accounts[name])
        assert await connection.run(statement.values(role=Role.MEMBER.value)) == 1
