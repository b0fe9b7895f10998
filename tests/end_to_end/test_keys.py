"""A workspace's key is rotated while calls go on: none of them notices."""

import asyncio

from core.settings import Settings
from storage.resources import open_resources
from tests.fake_provider import FakeProvider
from tests.product import COMPLETE, Product, chat, model
from workers.main import make_worker

ROTATE = """mutation ($input: RotateWorkspaceKeyInput!) { rotateWorkspaceKey(input: $input) {
  workspace { id keyVersion keyRotation { fromVersion toVersion resealed total finishedAt } } errors { code path } } }"""
STATE = """{ workspace { keyVersion keyRotation { resealed total finishedAt }
  credentials(first: 100) { nodes { keyVersion status } } } }"""
CREDENTIALS = 12


async def test_no_call_notices_a_rotation(product: Product, provider: FakeProvider, product_settings: Settings) -> None:
    for number in range(CREDENTIALS):
        await product.add_model(f"{number}:text", provider.url, key=f"sk-test-{number:020}")
    workspace = (await product.data("{workspace{id}}"))["workspace"]["id"]
    ended, answers = asyncio.Event(), []

    async def calls(number: int) -> None:
        while not ended.is_set():
            answers.append(await product.changed(COMPLETE, **chat(model=model(f"{number}:text"))))

    async with open_resources(product_settings, kind="worker") as worker, asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(calls(number))
        begun = (await product.changed(ROTATE, workspaceId=workspace))["workspace"]
        await worker.relay.sweep()
        await make_worker(worker, burst=True).async_run()
        seen = len(answers)
        while len(answers) < seen + 20:
            await asyncio.sleep(0.01)
        ended.set()

    assert (begun["keyVersion"], begun["keyRotation"]["fromVersion"], begun["keyRotation"]["toVersion"]) == (2, 1, 2)
    assert {answer["message"]["text"] for answer in answers} == {"Hello from the fake provider."}
    state = (await product.data(STATE))["workspace"]
    assert (state["keyRotation"]["resealed"], state["keyRotation"]["total"]) == (CREDENTIALS, CREDENTIALS)
    assert state["keyRotation"]["finishedAt"] is not None
    assert [one["keyVersion"] for one in state["credentials"]["nodes"]] == [2] * CREDENTIALS
