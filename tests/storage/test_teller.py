"""What commits have brought is told to other processes: all of it, in its order, to the end of the process."""

import asyncio
from pathlib import Path

from core.changes import Change, ChangeKind, Noun, channel_of, from_message
from core.settings import Settings
from storage.resources import open_resources
from tests.conftest import settings_for, sqlite_in
from tests.storage import rows
from tests.waiting import LIMIT_S


async def test_changes_are_heard_in_the_order_of_their_commits_to_the_last(settings: Settings) -> None:
    async with open_resources(settings, kind="api") as listening:
        tenant = await rows.tenant(listening.app)
        async with listening.app.changes.listen(channel_of(tenant.id)) as messages:
            async with open_resources(settings, kind="api") as telling:
                versions = []
                for number in range(30):
                    async with telling.app.storage.transaction() as tx:
                        versions.append(await tx.workspaces.touch(tenant.id))
                        tx.news.add(Change(workspace_id=tenant.id, noun=Noun.POOL, key="one", status=str(number)))
            async with asyncio.timeout(LIMIT_S):
                heard = [from_message(await anext(messages)) for _ in range(30)]

    assert [one.status for one in heard if one is not None] == [str(number) for number in range(30)]
    assert [one.version for one in heard if one is not None] == versions


async def test_changes_of_one_object_in_a_transaction_are_one_and_none_of_them_is_told_when_it_fails(
    settings: Settings,
) -> None:
    async with open_resources(settings, kind="api") as opened:
        tenant = await rows.tenant(opened.app)

        def change(kind: ChangeKind, key: str = "one") -> Change:
            return Change(workspace_id=tenant.id, noun=Noun.POOL, key=key, kind=kind)

        async with opened.app.changes.listen(channel_of(tenant.id)) as messages:
            try:
                async with opened.app.storage.transaction() as tx:
                    tx.news.add(change(ChangeKind.CREATED, "failed"))
                    raise RuntimeError
            except RuntimeError:
                pass
            async with opened.app.storage.transaction() as tx:
                for kind in (ChangeKind.CREATED, ChangeKind.UPDATED):
                    tx.news.add(change(kind))
            async with opened.app.storage.transaction() as tx:
                for kind in (ChangeKind.UPDATED, ChangeKind.DELETED):
                    tx.news.add(change(kind))
            async with asyncio.timeout(LIMIT_S):
                heard = [from_message(await anext(messages)) for _ in range(2)]

    assert [(one.key, one.kind) for one in heard if one is not None] == [
        ("one", ChangeKind.CREATED),
        ("one", ChangeKind.DELETED),
    ]


async def test_without_redis_commits_are_made_and_the_process_ends(sqlite_template: Path, tmp_path: Path) -> None:
    settings = settings_for(sqlite_in(tmp_path, sqlite_template), f"unix://{tmp_path}/nothing.sock", tmp_path)

    async with asyncio.timeout(LIMIT_S), open_resources(settings, kind="worker") as opened:
        tenant = await rows.tenant(opened.app)
        made = await rows.credential(opened.app, tenant.id)
        configuration = await opened.app.configurations.get(tenant.id)

    assert made.id in configuration.credentials
