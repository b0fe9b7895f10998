"""Add what a rotation of a workspace's key leaves to be seen."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("workspace_keys", sa.Column("replaces", sa.Integer(), nullable=True))
    op.add_column("workspace_keys", sa.Column("to_reseal", sa.Integer(), nullable=True))
    op.add_column("workspace_keys", sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Go back to the revision before."""
    for name in ("finished_at", "to_reseal", "replaces"):
        op.drop_column("workspace_keys", name)
