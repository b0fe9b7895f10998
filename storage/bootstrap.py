"""The first start: an operator, a first workspace with its key, and the owner's personal token, all or nothing."""

import os
import sys
from pathlib import Path

from sqlalchemy import literal, select

from core.access import Role
from core.entities import Account, Member, Workspace
from core.ids import uuid7
from core.ports.clock import Clock
from core.secret import Secret, hash_secret, new_secret
from core.settings import Settings
from core.tokens import personal_token
from storage.accounts import accounts
from storage.cipher import Cipher
from storage.clock import SystemClock
from storage.engine import lock_bootstrap, open_engines
from storage.transaction import SqlStorage, SqlTransaction

TOKEN_FILE = "owner.token"


async def bootstrap(settings: Settings, *, clock: Clock | None = None) -> Secret | None:
    """Make the first account, workspace and token unless there is an account already; return the token's secret.

    The secret stands in `owner.token` before the rows are committed: a start that is killed in between leaves a file
    that the next one replaces, never an account without a token.
    """
    engines = open_engines(settings.database_url, pool=1)
    cipher = Cipher(settings.encryption_keys)
    storage = SqlStorage(engines, cipher, clock or SystemClock(), lambda _: None)
    try:
        async with storage.transaction() as tx:
            await lock_bootstrap(tx.connection.raw)
            if await tx.connection.row(select(literal(1)).select_from(accounts).limit(1)) is not None:
                return None
            secret = new_secret()
            await _insert(tx, secret)
            write_token(settings.data, secret)
    finally:
        await engines.close()
    return secret


async def _insert(tx: SqlTransaction, secret: Secret) -> None:
    now = tx.connection.now()
    account = Account(id=uuid7(), name="Owner", email="owner@localhost", is_operator=True, created_at=now)
    workspace = Workspace(
        id=uuid7(),
        name="My workspace",
        slug="my-workspace",
        key_version=1,
        config_version=1,
        created_at=now,
        updated_at=now,
    )
    member = Member(id=uuid7(), workspace_id=workspace.id, account_id=account.id, role=Role.OWNER, created_at=now)
    token = personal_token(account.id, secret, "First token of the owner", now)
    await tx.accounts.insert(account)
    await tx.workspaces.insert(workspace)
    await tx.members.insert(member)
    await tx.tokens.insert(token, hash_secret(secret.reveal()))


def write_token(folder: Path, secret: Secret) -> Path:
    """Write the secret alone on one line of a file that only its owner may read, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    target, unfinished = folder / TOKEN_FILE, folder / f".{TOKEN_FILE}.part"
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret.reveal() + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)
    return target


def announce(settings: Settings, secret: Secret | None) -> None:
    """Show the owner's token on standard output, this once; say nothing where there was nothing to do."""
    if secret is not None:
        sys.stdout.write(
            "The owner's token, shown this once (it is also in "
            f"{settings.data / TOKEN_FILE}):\n\n    {secret.reveal()}\n\n"
        )
        sys.stdout.flush()
