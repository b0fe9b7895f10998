"""Relations are read together: the number of reads does not grow with the list."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest

from core.ports.transaction import Storage, Transaction
from tests.graph.world import World

COMPLETE = "mutation ($input: CompletionInput!) { complete(input: $input) { finishReason errors { code } } }"


class Counting:
    """A storage that counts what is opened."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.reads = 0

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._storage.transaction()

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        self.reads += 1
        return self._storage.read()


@pytest.mark.parametrize("calls", [1, 5])
async def test_the_reads_of_a_page_are_as_many_however_long_it_is(world: World, calls: int) -> None:
    given: dict[str, Any] = {
        "model": {"provider": "echo", "name": "echo"},
        "messages": [{"role": "USER", "text": "hi"}],
    }
    for number in range(calls):
        await world.change(("owner", "admin", "member")[number % 3], COMPLETE, **given)
    storage = Counting(world.app.storage)
    world.app = replace(world.app, storage=storage)

    data = await world.data(
        "owner",
        "{ workspace { invocations { nodes { account { name } token { name } workspace { slug } credential { id } } } } }",
    )

    assert len(data["workspace"]["invocations"]["nodes"]) == calls
    assert storage.reads == 5  # the workspace, the page, and one each for accounts, tokens and workspaces
