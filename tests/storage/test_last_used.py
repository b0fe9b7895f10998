"""When tokens and credentials were last used: a little late, never back, not written call by call."""

from core.app import App
from core.secret import hash_secret
from storage.resources import Resources, open_resources
from tests.conftest import MovableClock
from tests.storage import rows


async def test_uses_are_written_together_when_a_process_stops(app: App, clock: MovableClock) -> None:
    tenant = await rows.tenant(app)
    made = await rows.credential(app, tenant.id)
    async with open_resources(app.settings, kind="api", clock=clock) as other:
        await other.app.identity.viewer(hash_secret(tenant.secret.reveal()))
        clock.advance(60)
        used_at = clock.now()
        await other.app.identity.viewer(hash_secret(tenant.secret.reveal()))
        await other.app.invocations.admit(rows.invocation(other.app, tenant, credential_id=made.id))
        async with app.storage.read() as tx:
            before = await tx.tokens.get(tenant.token.id)
        clock.advance(60)

    async with app.storage.read() as tx:
        token = await tx.tokens.get(tenant.token.id)
        credential = await tx.credentials.get(tenant.id, made.id)
    assert before is not None
    assert before.last_used_at is None
    assert token is not None
    assert token.last_used_at == used_at
    assert credential is not None
    assert credential.last_used_at == used_at
    assert credential.version == made.version


async def test_a_time_of_use_never_goes_back(app: App, resources: Resources, clock: MovableClock) -> None:
    tenant = await rows.tenant(app)
    secret = hash_secret(tenant.secret.reveal())
    async with open_resources(app.settings, kind="api", clock=MovableClock()) as slow:
        clock.advance(60)
        async with open_resources(app.settings, kind="api", clock=clock) as quick:
            await quick.app.identity.viewer(secret)
        await slow.app.identity.viewer(secret)

    async with app.storage.read() as tx:
        token = await tx.tokens.get(tenant.token.id)
    assert token is not None
    assert token.last_used_at == clock.now()
