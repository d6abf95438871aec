"""Wordings of mails, the mails people switched off, and the warnings of certificates that were told."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mail_wordings",
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=200)),
        sa.Column("text", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.Column("updated_by_name", sa.String(length=320), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_mail_wordings"),
    )
    op.create_table(
        "switched_off_mails",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_switched_off_mails_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "kind", name="pk_switched_off_mails"),
    )
    op.create_table(
        "told_endings",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("days", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("told_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "days", name="pk_told_endings"),
    )
    op.create_index("ix_told_endings_told_at", "told_endings", ["told_at"])
