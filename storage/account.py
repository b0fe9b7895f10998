"""`python -m storage.account`: what whoever runs the server does to accounts: list, give a token, make operators."""

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update

from core.entities import Account
from core.errors import ModelyardError, NotFound
from core.ports.clock import Clock
from core.secret import Secret, hash_secret, new_secret
from core.settings import Settings, SettingsError, load_settings
from core.tokens import personal_token
from storage.accounts import accounts
from storage.cipher import Cipher
from storage.clock import SystemClock
from storage.embedded.supervisor import with_folder_key
from storage.engine import open_engines
from storage.migrate import sqlite_file
from storage.transaction import SqlStorage, SqlTransaction

TOKEN_NAME = "Made on the server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be done to an account; `is_operator` None leaves it what it is."""

    email: str
    is_operator: bool | None = None
    with_token: bool = False


async def all_accounts(settings: Settings) -> Sequence[Account]:
    """Return every account, oldest first."""
    async with _Opened(settings, SystemClock()) as storage, storage.read() as tx:
        rows = await tx.connection.rows(select(accounts.c.id).order_by(accounts.c.id))
        found = await tx.accounts.get_many([row.id for row in rows])
    return [found[row.id] for row in rows if row.id in found]


async def change_account(settings: Settings, change: Change, clock: Clock | None = None) -> Secret | None:
    """Do what is asked for to one account, all or nothing; return the secret of its new personal token.

    Raises:
        NotFound: there is no account of this e-mail address.
    """
    async with _Opened(settings, clock or SystemClock()) as storage, storage.transaction() as tx:
        account = await tx.accounts.by_email(change.email.strip())
        if account is None:
            raise NotFound(f"There is no account of {change.email.strip()}; ./run account lists them.")
        if change.is_operator is not None:
            await tx.connection.run(
                update(accounts)
                .where(accounts.c.id == account.id)
                .values(is_operator=change.is_operator, updated_at=tx.connection.now())
            )
        return await _new_token(tx, account) if change.with_token else None


async def _new_token(tx: SqlTransaction, account: Account) -> Secret:
    secret = new_secret()
    token = personal_token(account.id, secret, TOKEN_NAME, tx.connection.now())
    await tx.tokens.insert(token, hash_secret(secret.reveal()))
    return secret


class _Opened:
    """The database alone, for the time of a block."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._engines = open_engines(settings.database_url, pool=1)
        self._storage = SqlStorage(self._engines, Cipher(settings.encryption_keys), clock, lambda _: None)

    async def __aenter__(self) -> SqlStorage:
        return self._storage

    async def __aexit__(self, *_: object) -> None:
        await self._engines.close()


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what the arguments say to the installation that the environment describes; return the exit code."""
    given = _parser().parse_args(arguments)
    is_asked = given.token or given.operator is not None
    try:
        settings = load_settings(with_folder_key(environ))
        file = sqlite_file(settings.database_url)
        if file is not None and not file.is_file():
            sys.stderr.write(f"There is no installation in {file.parent}: start it once, or set MODELYARD_DATA.\n")
            return 2
        if given.email is None:
            if is_asked:
                sys.stderr.write("Say whose account: ./run account EMAIL --token\n")
                return 2
            _list(asyncio.run(all_accounts(settings)))
            return 0
        if not is_asked:
            sys.stderr.write("Say what is to be done: --token, --operator or --no-operator.\n")
            return 2
        change = Change(email=given.email, is_operator=given.operator, with_token=given.token)
        secret = asyncio.run(change_account(settings, change))
    except (SettingsError, ModelyardError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, SettingsError) else 1
    if given.operator is not None:
        sys.stdout.write(f"{given.email} {'is' if given.operator else 'is no longer'} an operator.\n")
    if secret is not None:
        sys.stdout.write(f"A new personal token of {given.email}, shown this once:\n\n    {secret.reveal()}\n\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run account", add_help=False)
    parser.add_argument("email", nargs="?")
    parser.add_argument("--token", action="store_true")
    parser.add_argument("--operator", action=argparse.BooleanOptionalAction)
    return parser


def _list(found: Sequence[Account]) -> None:
    for account in found:
        sys.stdout.write(f"{account.email}  {account.name}{'  (operator)' if account.is_operator else ''}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
