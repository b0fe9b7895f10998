"""Add pools and their members."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "pools",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("strategy", sa.String(length=16), nullable=False),
        sa.Column("hedge_percentile", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="fk_pools_workspace_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_pools"),
        sa.UniqueConstraint(
            "workspace_id", "provider", "name", "type", name="uq_pools_workspace_id_provider_name_type"
        ),
    )
    op.create_table(
        "pool_members",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("pool_id", sa.Uuid(), nullable=False),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["credentials.id"], name="fk_pool_members_credential_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["pool_id"], ["pools.id"], name="fk_pool_members_pool_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name="fk_pool_members_workspace_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pool_members"),
        sa.UniqueConstraint("pool_id", "credential_id", name="uq_pool_members_pool_id_credential_id"),
    )
    default = sa.text("credential_id IS NULL")
    op.create_index(
        "uq_pool_members_default",
        "pool_members",
        ["pool_id"],
        unique=True,
        sqlite_where=default,
        postgresql_where=default,
    )
    op.create_index("ix_pool_members_workspace_id", "pool_members", ["workspace_id"], unique=False)
    op.create_index("ix_pool_members_credential_id", "pool_members", ["credential_id"], unique=False)


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("pool_members")
    op.drop_table("pools")
