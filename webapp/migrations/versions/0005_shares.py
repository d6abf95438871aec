"""Shares: what a user may do with a resource, or with one account, of somebody else."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for shared in ("resource", "account"):
        table = f"{shared}_shares"
        op.create_table(
            table,
            sa.Column(f"{shared}_id", sa.Integer(), nullable=False),
            sa.Column("user_id", sa.Integer(), nullable=False),
            sa.Column("given", sa.String(length=10), nullable=False),
            sa.Column("given_at", sa.DateTime(), nullable=False),
            sa.Column("given_by_name", sa.String(length=320), nullable=False),
            sa.ForeignKeyConstraint(
                [f"{shared}_id"], [f"{shared}s.id"], name=f"fk_{table}_{shared}_id", ondelete="CASCADE"
            ),
            sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=f"fk_{table}_user_id", ondelete="CASCADE"),
            sa.PrimaryKeyConstraint(f"{shared}_id", "user_id", name=f"pk_{table}"),
        )
        op.create_index(f"ix_{table}_user_id", table, ["user_id"])
