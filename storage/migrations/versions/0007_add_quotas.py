"""Add balances of hosted use, their holds and their ledger, and keys by which operations are done once."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_HELD = sa.text("state = 'HELD'")
_LATE = sa.text("kind = 'LATE_SETTLE'")
_LIVE = sa.text("archived_at IS NULL")


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "quotas",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("unit", sa.String(length=16), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=True),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("restricted_to", sa.Text(), nullable=True),
        sa.Column("resets_every", sa.String(length=16), nullable=True),
        sa.Column("period", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        *_times(),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_quotas_holds_nothing_negative")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_quotas_workspace_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quotas")),
    )
    op.create_index(op.f("ix_quotas_workspace_id_id"), "quotas", ["workspace_id", "id"])
    op.create_index(
        "uq_quotas_live",
        "quotas",
        ["workspace_id", "provider", "type"],
        unique=True,
        sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )
    op.create_table(
        "quota_holds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("quota_id", sa.Uuid(), nullable=False),
        sa.Column("invocation_id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("period", sa.DateTime(timezone=True), nullable=True),
        *_times(),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_quota_holds_is_not_negative")),
        sa.ForeignKeyConstraint(["quota_id"], ["quotas.id"], name=op.f("fk_quota_holds_quota_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota_holds")),
    )
    op.create_index(op.f("ix_quota_holds_invocation_id"), "quota_holds", ["invocation_id"])
    op.create_index(op.f("ix_quota_holds_quota_id"), "quota_holds", ["quota_id"])
    op.create_index("ix_quota_holds_held", "quota_holds", ["owner"], sqlite_where=_HELD, postgresql_where=_HELD)
    op.create_table(
        "quota_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("quota_id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("limit_change", sa.BigInteger(), nullable=False),
        sa.Column("used_change", sa.BigInteger(), nullable=False),
        sa.Column("reserved_change", sa.BigInteger(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=True),
        sa.Column("hold_id", sa.Uuid(), nullable=True),
        sa.Column("invocation_id", sa.Uuid(), nullable=True),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        *_times(),
        sa.ForeignKeyConstraint(
            ["quota_id"], ["quotas.id"], name=op.f("fk_quota_entries_quota_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_quota_entries_workspace_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota_entries")),
    )
    op.create_index(op.f("ix_quota_entries_quota_id_id"), "quota_entries", ["quota_id", "id"])
    op.create_index(op.f("ix_quota_entries_workspace_id"), "quota_entries", ["workspace_id"])
    op.create_index(op.f("ix_quota_entries_invocation_id"), "quota_entries", ["invocation_id"])
    op.create_index(
        "uq_quota_entries_late",
        "quota_entries",
        ["hold_id"],
        unique=True,
        sqlite_where=_LATE,
        postgresql_where=_LATE,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("principal", sa.Uuid(), nullable=False),
        sa.Column("operation", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("result_id", sa.Uuid(), nullable=False),
        *_times(),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_idempotency_keys_workspace_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_keys")),
        sa.UniqueConstraint(
            "workspace_id",
            "principal",
            "operation",
            "key",
            name="uq_idempotency_keys_workspace_id_principal_operation_key",
        ),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Go back to the revision before."""
    for name in ("idempotency_keys", "quota_entries", "quota_holds", "quotas"):
        op.drop_table(name)


def _times() -> tuple[sa.Column[object], sa.Column[object]]:
    return (
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
