"""Add the sums of usage, and mark the calls that are in them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("invocations", sa.Column("rolled_up", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(
        "ix_invocations_not_rolled_up",
        "invocations",
        ["workspace_id"],
        unique=False,
        sqlite_where=sa.text("NOT rolled_up"),
        postgresql_where=sa.text("NOT rolled_up"),
    )
    op.create_table(
        "usage_rollups",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key", sa.LargeBinary(length=32), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("model_type", sa.String(length=16), nullable=False),
        sa.Column("provider_type", sa.String(length=16), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("credential_name", sa.String(length=64), nullable=True),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("token_id", sa.Uuid(), nullable=False),
        sa.Column("end_user", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=True),
        *(
            sa.Column(name, sa.Float(precision=53) if name == "seconds" else sa.BigInteger(), nullable=False)
            for name in (
                "calls",
                "estimated",
                "input_tokens",
                "output_tokens",
                "cached_input_tokens",
                "cache_write_tokens",
                "reasoning_tokens",
                "characters",
                "seconds",
                "requests",
                "cost_whole",
                "cost_nanos",
                "cost_attos",
            )
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_usage_rollups_workspace_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_usage_rollups"),
        sa.UniqueConstraint("workspace_id", "hour", "key", name="uq_usage_rollups_workspace_id_hour_key"),
    )
    op.create_index("ix_usage_rollups_hour", "usage_rollups", ["hour"], unique=False)


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index("ix_usage_rollups_hour", "usage_rollups")
    op.drop_table("usage_rollups")
    op.drop_index(
        "ix_invocations_not_rolled_up",
        "invocations",
        sqlite_where=sa.text("NOT rolled_up"),
        postgresql_where=sa.text("NOT rolled_up"),
    )
    op.drop_column("invocations", "rolled_up")
