"""Let the events of payment gateways name the single refund that they are about."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("payment_events", sa.Column("refund_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_column("payment_events", "refund_id")
