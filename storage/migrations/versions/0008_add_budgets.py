"""Add budgets with what calls hold of them, and the calls and tokens a minute that a token may make."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_LIVE = sa.text("archived_at IS NULL")


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("api_tokens", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_tokens", sa.Column("tokens_per_minute", sa.Integer(), nullable=True))
    op.create_table(
        "budgets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("workspace_id", sa.Uuid(), nullable=True),
        sa.Column("limit", sa.Text(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("resets_every", sa.String(length=16), nullable=False),
        sa.Column("used", sa.Text(), nullable=False),
        sa.Column("reserved", sa.Text(), nullable=False),
        sa.Column("period", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        *_times(),
        sa.CheckConstraint("(token_id IS NULL) <> (workspace_id IS NULL)", name=op.f("ck_budgets_is_of_one")),
        sa.CheckConstraint("reserved NOT LIKE '-%'", name=op.f("ck_budgets_holds_nothing_negative")),
        sa.ForeignKeyConstraint(["token_id"], ["api_tokens.id"], name=op.f("fk_budgets_token_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_budgets_workspace_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
    )
    op.create_index("uq_budgets_live", "budgets", ["token_id"], unique=True, sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index(op.f("ix_budgets_workspace_id"), "budgets", ["workspace_id"])
    op.create_table(
        "budget_holds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("invocation_id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("used", sa.Text(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("period", sa.DateTime(timezone=True), nullable=True),
        *_times(),
        sa.CheckConstraint("amount NOT LIKE '-%'", name=op.f("ck_budget_holds_is_not_negative")),
        sa.ForeignKeyConstraint(
            ["budget_id"], ["budgets.id"], name=op.f("fk_budget_holds_budget_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budget_holds")),
    )
    op.create_index(op.f("ix_budget_holds_invocation_id"), "budget_holds", ["invocation_id"])
    op.create_index(op.f("ix_budget_holds_budget_id"), "budget_holds", ["budget_id"])


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_table("budget_holds")
    op.drop_table("budgets")
    op.drop_column("api_tokens", "tokens_per_minute")
    op.drop_column("api_tokens", "requests_per_minute")


def _times() -> tuple[sa.Column[object], sa.Column[object]]:
    return (
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )
