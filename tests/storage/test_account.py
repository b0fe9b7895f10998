"""What whoever runs the server does to accounts, on both engines."""

import asyncio
import re
from pathlib import Path

import pytest

from core.app import App
from core.errors import NotFound
from core.secret import hash_secret
from core.settings import Settings
from storage.account import Change, all_accounts, change_account, main
from storage.bootstrap import bootstrap
from tests.conftest import KEY, settings_for, sqlite_in
from tests.storage import rows


async def test_a_person_who_lost_their_tokens_gets_a_new_one(app: App, settings: Settings) -> None:
    tenant = await rows.tenant(app)

    secret = await change_account(settings, Change(email=f" {tenant.account.email.upper()} ", with_token=True))

    assert secret is not None
    viewer = await app.identity.viewer(hash_secret(secret.reveal()))
    assert viewer is not None
    assert (viewer.account_id, viewer.workspace_id, viewer.is_operator) == (tenant.account.id, None, False)
    assert set(viewer.memberships) == {tenant.id}


async def test_an_operator_is_made_and_unmade(app: App, settings: Settings) -> None:
    tenant = await rows.tenant(app)
    token = hash_secret(tenant.secret.reveal())

    assert await change_account(settings, Change(email=tenant.account.email, is_operator=True)) is None
    made = await app.identity.viewer(token)
    await change_account(settings, Change(email=tenant.account.email, is_operator=False))
    unmade = await app.identity.viewer(token)

    assert made is not None
    assert unmade is not None
    assert (made.is_operator, unmade.is_operator) == (True, False)


async def test_an_unknown_address_changes_nothing(app: App, settings: Settings) -> None:
    tenant = await rows.tenant(app)

    with pytest.raises(NotFound, match="nobody@test"):
        await change_account(settings, Change(email="nobody@test", is_operator=True, with_token=True))

    (only,) = await all_accounts(settings)
    assert only == tenant.account


def test_the_command_says_what_it_did_and_what_it_misses(
    sqlite_template: Path, redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "encryption.key").write_text(KEY + "\n")
    asyncio.run(bootstrap(settings_for(sqlite_in(tmp_path, sqlite_template), redis_url, tmp_path)))
    environ, owner = {"MODELYARD_DATA": str(tmp_path)}, "owner@localhost"

    listed, shown = main([], environ), capsys.readouterr().out
    refused = [main(words, environ) for words in (["--token"], ["ada@test"], ["ada@test", "--token"])]
    said = capsys.readouterr()
    done, told = main([owner, "--token", "--no-operator"], environ), capsys.readouterr().out

    assert (listed, shown) == (0, "owner@localhost  Owner  (operator)\n")
    assert (refused, said.out) == ([2, 2, 1], "")
    assert said.err.splitlines() == [
        "Say whose account: ./run account EMAIL --token",
        "Say what is to be done: --token, --operator or --no-operator.",
        "There is no account of ada@test; ./run account lists them.",
    ]
    assert done == 0
    assert f"{owner} is no longer an operator." in told
    assert re.search(r"\n    my_[\w-]{43}\n", told)


def test_the_command_makes_no_installation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"MODELYARD_DATA": str(tmp_path), "MODELYARD_ENCRYPTION_KEYS": KEY}

    assert main([], environ) == 2
    assert "There is no installation" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
