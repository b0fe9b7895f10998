"""Add what the public values of a credential say of its model."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("credentials", sa.Column("form_values", sa.Text(), nullable=True))


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_column("credentials", "form_values")
