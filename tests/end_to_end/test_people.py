"""A person from the invitation to the removal, through two API processes of one installation."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.settings import Settings
from tests.end_to_end.test_completion import names, settled
from tests.fake_provider import FakeProvider
from tests.product import Product, chat, completion, model, serving
from tests.waiting import LIMIT_S

INVITE = "mutation($input:AddMemberInput!){addMember(input:$input){invitation errors{code message}}}"
ACCEPT = """mutation($input:AcceptInvitationInput!){acceptInvitation(input:$input){
  secret apiToken{name account{email}} errors{code message path}}}"""
REMOVE = "mutation($input:RemoveMemberInput!){removeMember(input:$input){deletedId errors{code message}}}"
TOKEN = "mutation($input:CreateApiTokenInput!){createApiToken(input:$input){secret errors{code message}}}"


@pytest.fixture
async def other(product: Product, product_settings: Settings) -> AsyncIterator[Product]:
    """Return another API process of the same installation."""
    async with serving(product_settings, product.token) as started:
        yield started


async def test_a_person_joins_calls_and_is_removed(product: Product, other: Product, provider: FakeProvider) -> None:
    await names(product, provider, "endless")
    workspace = (await product.data("{workspace{id}}"))["workspace"]["id"]

    # They join: the invitation is all they have.
    invited = await product.changed(INVITE, email="ada@example.com", role="EDITOR")
    answer = await other.ask(ACCEPT, token="", input={"invitation": invited["invitation"], "tokenName": "laptop"})
    joined = answer["data"]["acceptInvitation"]
    again = await product.ask(ACCEPT, token="", input={"invitation": invited["invitation"]})
    assert "errors" not in answer, answer
    assert joined["apiToken"] == {"name": "laptop", "account": {"email": "ada@example.com"}}
    assert [error["code"] for error in again["data"]["acceptInvitation"]["errors"]] == ["CONFLICT"]

    # They make a token for an app and call, in the other process.
    made = await other.ask(
        TOKEN, token=joined["secret"], input={"workspaceId": workspace, "name": "app", "role": "MEMBER"}
    )
    app_secret = made["data"]["createApiToken"]["secret"]
    async with other.socket(token=app_secret) as ws:
        events = completion(ws, chat(model=model("endless")))
        found = [await anext(events) for _ in range(3)]

        # They are removed in the first process: both tokens stop at once, the call when access is looked at again, as
        # often as tests/graph/test_access.py says.
        listed = await product.data("{workspace{members(role: EDITOR){nodes{id}}}}")
        await product.changed(REMOVE, id=listed["workspace"]["members"]["nodes"][0]["id"])
        refused = await other.ask("{workspace{name}}", token=app_secret)
        personal = await other.ask("{workspaces{totalCount}}", token=joined["secret"])
        async with asyncio.timeout(LIMIT_S):
            last = [*found, *[event async for event in events]][-1]

    assert refused["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert personal == {"data": {"workspaces": {"totalCount": 0}}}
    assert (last["__typename"], last.get("reason")) == ("CompletionInterrupted", "UNAUTHORIZED")
    await settled(product, "CANCELLED")
    await asyncio.to_thread(provider.wait_until_quiet)
