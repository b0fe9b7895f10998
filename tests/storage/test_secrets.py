"""No secret lies in clear anywhere: not in the database, Valkey, a payload, a log line or an error."""

import base64
import logging
import sqlite3
from pathlib import Path

import pytest
from redis.asyncio import Redis

from core.app import App
from core.errors import AlreadyExists, CredentialUnreadable
from core.jobs import ValidateCredential
from core.provider import Values
from core.secret import Secret, hash_secret
from storage.redis import absolute
from storage.resources import Resources
from tests.storage import rows
from workers.main import make_worker

CANARY = "sk-canary-5e1f0b7d93a24c68"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_secrets_are_in_no_file_payload_or_log_line(
    app: App, resources: Resources, tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tenant = await rows.tenant(app)
    values: Values = {"api_key": Secret(CANARY), "base_url": "http://127.0.0.1:9"}
    made = await rows.credential(app, tenant.id, provider="openai", values=values)
    with pytest.raises(AlreadyExists) as refused:
        await rows.credential(app, tenant.id, provider="openai", values=values)
    async with app.storage.transaction() as tx:
        await tx.outbox.add(ValidateCredential(workspace_id=tenant.id, credential_id=made.id, version=1))
    assert (await app.vault.open(made))["api_key"] == Secret(CANARY)
    assert await app.identity.viewer(hash_secret(tenant.secret.reveal())) is not None
    await resources.relay.sweep()
    async with Redis.from_url(absolute(redis_url)) as redis:
        before = await _everything(redis)
    await make_worker(resources, burst=True).async_run()
    async with Redis.from_url(absolute(redis_url)) as redis:
        after = await _everything(redis)

    sqlite3.connect(tmp_path / "modelyard.db").execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    told = f"{refused.value!r} {made!r} {app.settings!r} {caplog.text}".encode()
    assert b"validate_credential" in before
    assert str(made.id).replace("-", "").encode() in files
    for secret in (CANARY, tenant.secret.reveal(), app.settings.encryption_keys[0].reveal()):
        for shown in (secret.encode(), base64.b64encode(secret.encode()), secret.encode().hex().encode()):
            for place in (files, before, after, told):
                assert shown not in place


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_secrets_are_in_no_row_of_postgresql(app: App, resources: Resources) -> None:
    tenant = await rows.tenant(app)
    await rows.credential(app, tenant.id, values={"api_key": Secret(CANARY)})
    from storage.base import metadata

    dump = []
    async with resources.storage.connect() as connection:
        for table in metadata.sorted_tables:
            dump += [repr(tuple(row)) for row in await connection.rows(table.select())]

    text = "\n".join(dump)
    assert tenant.account.email in text
    assert CANARY not in text
    assert CANARY.encode().hex() not in text
    assert tenant.secret.reveal() not in text


async def test_an_unreadable_record_says_so_without_what_it_held(app: App) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(app, tenant.id, values={"api_key": Secret(CANARY)})
    from dataclasses import replace

    with pytest.raises(CredentialUnreadable) as refused:
        await app.vault.open(replace(made, id=tenant.id))

    chain = [refused.value, refused.value.__cause__]
    assert all(CANARY not in f"{error!r}{error}" for error in chain)


async def _everything(redis: Redis) -> bytes:
    """Return every key and value of a Valkey."""
    await redis.config_set("rdbcompression", "no")
    found = b""
    for key in await redis.keys("*"):
        found += key + (await redis.dump(key) or b"")  # nothing, when its time was up just now
    return found
