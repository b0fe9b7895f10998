"""Add what providers' own lists of models say, and when they were read."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("models", sa.Column("remote", sa.Text(), nullable=True))
    op.add_column("providers", sa.Column("models_refreshed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_column("providers", "models_refreshed_at")
    op.drop_column("models", "remote")
