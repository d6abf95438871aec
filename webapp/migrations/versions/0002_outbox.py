"""The outbox: messages, failed attempts, the pause and the workers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "outbox_messages",
        sa.Column("id", _big, nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.Integer()),
        sa.Column("recipient", sa.String(length=320), nullable=False),
        sa.Column("recipient_name", sa.String(length=200), nullable=False),
        sa.Column("about", sa.String(length=200), nullable=False),
        sa.Column("cause", sa.String(length=320), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("queued_at", sa.DateTime(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("crashes", sa.Integer(), nullable=False),
        sa.Column("lease", sa.String(length=32)),
        sa.Column("lease_until", sa.DateTime()),
        sa.Column("message_id", sa.String(length=320)),
        sa.Column("attempted_at", sa.DateTime()),
        sa.Column("ended_at", sa.DateTime()),
        sa.Column("code", sa.String(length=60), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("server", sa.String(length=270), nullable=False),
        sa.Column("again_of", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_messages"),
        sa.UniqueConstraint("token", name="uq_outbox_messages_token"),
    )
    for name, columns, state in (
        ("ix_outbox_messages_queued", ["due_at", "id"], "queued"),
        ("ix_outbox_messages_sending", ["lease_until"], "sending"),
    ):
        condition = sa.text(f"state = '{state}'")
        op.create_index(name, "outbox_messages", columns, sqlite_where=condition, postgresql_where=condition)
    op.create_index("ix_outbox_messages_ended_at", "outbox_messages", ["ended_at"])
    op.create_index("ix_outbox_messages_user_id_id", "outbox_messages", ["user_id", "id"])
    op.create_table(
        "outbox_failed_attempts",
        sa.Column("id", _big, nullable=False),
        sa.Column("message_id", _big, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("code", sa.String(length=60), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("server", sa.String(length=270), nullable=False),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["outbox_messages.id"],
            name="fk_outbox_failed_attempts_message_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_failed_attempts"),
    )
    op.create_index("ix_outbox_failed_attempts_message_id", "outbox_failed_attempts", ["message_id"])
    op.create_table(
        "outbox_pause",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("about", sa.String(length=64), nullable=False),
        sa.Column("server", sa.String(length=270), nullable=False),
        sa.Column("code", sa.String(length=60), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("login", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempted_at", sa.DateTime(), nullable=False),
        sa.Column("attempt_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_pause"),
    )
    op.create_table(
        "outbox_workers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_workers"),
    )
