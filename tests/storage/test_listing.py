"""What remote models leave in the tables, on every engine: kept whole, refreshed when due."""

from datetime import timedelta

from core.entities import ModelRow, ModelSource, ProviderRow
from core.model_types import ModelFeature, ModelKey, ModelType
from core.provider import RemoteModel
from storage.providers import stale
from storage.resources import Resources
from tests.conftest import MovableClock
from tests.storage import rows

KEY = ModelKey(provider="anthropic", name="claude-new", type=ModelType.LLM)
REMOTE = RemoteModel(
    name="claude-new",
    type=ModelType.LLM,
    label="Claude New",
    features=frozenset({ModelFeature.VISION}),
    context_window=1000,
    gone=True,
)


async def test_what_a_list_says_is_kept_whole(resources: Resources) -> None:
    app = resources.app
    tenant = await rows.tenant(app)
    row = ModelRow(key=KEY, source=ModelSource.REMOTE, label=None, active_credential_id=None, remote=REMOTE)

    async with app.storage.transaction() as tx:
        await tx.models.put(tenant.id, row)
        await tx.providers.set_refreshed(tenant.id, "anthropic", app.clock.now())
        await tx.providers.set_preferred(tenant.id, "anthropic", None)

    async with app.storage.read() as tx:
        configuration = await tx.configuration(tenant.id)
    assert configuration.models == {KEY: row}
    assert configuration.providers == {"anthropic": ProviderRow(name="anthropic", models_refreshed_at=app.clock.now())}


async def test_lists_are_due_a_day_after_they_were_read_where_a_credential_can_ask(
    resources: Resources, clock: MovableClock
) -> None:
    app = resources.app
    tenants = [await rows.tenant(app, name) for name in ("never", "long-ago", "lately", "without")]
    for tenant in tenants[:3]:
        credential = await rows.credential(app, tenant.id, "key", provider="anthropic")
        async with app.storage.transaction() as tx:
            await tx.providers.set_active(tenant.id, "anthropic", credential.id)
    for tenant, days in ((tenants[1], 2), (tenants[2], 0), (tenants[3], 2)):
        async with app.storage.transaction() as tx:
            await tx.providers.set_refreshed(tenant.id, "anthropic", clock.now() - timedelta(days=days))

    async with resources.storage.connect() as connection:
        since = clock.now() - timedelta(days=1)
        first = await stale(connection, ["anthropic"], since, after=None, limit=1)
        rest = await stale(connection, ["anthropic"], since, after=first[-1].id, limit=5)
        others = await stale(connection, ["gemini"], since, after=None, limit=5)

    found = [one.workspace_id for one in (*first, *rest)]
    assert sorted(found) == sorted([tenants[0].id, tenants[1].id])
    assert others == []
