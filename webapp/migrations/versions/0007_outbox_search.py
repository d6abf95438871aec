"""The outbox: what a search looks at, the indexes behind its pages, and how long it keeps what has ended."""

import sqlalchemy as sa
from alembic import op

from webapp.search import key

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_QUEUED = sa.text("state = 'queued'")
_ENDED = sa.text("ended_at IS NOT NULL")
_EMPTIED = sa.text("ended_at IS NOT NULL AND sealed IS NOT NULL")


def upgrade() -> None:
    op.add_column("outbox_messages", sa.Column("found_by", sa.Text(), nullable=False, server_default=""))
    _fill()
    op.drop_index("ix_outbox_messages_queued", "outbox_messages")
    op.drop_index("ix_outbox_messages_ended_at", "outbox_messages")
    for name, columns, condition in (
        ("ix_outbox_messages_queued", ["due_at", "id", "queued_at"], _QUEUED),
        ("ix_outbox_messages_ended", ["ended_at", "state", "queued_at"], _ENDED),
        ("ix_outbox_messages_emptied", ["ended_at"], _EMPTIED),
    ):
        op.create_index(name, "outbox_messages", columns, sqlite_where=condition, postgresql_where=condition)
    op.create_table(
        "outbox_settings",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kept_days", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_settings"),
    )


def _fill() -> None:
    connection = op.get_bind()
    messages = sa.table("outbox_messages", *map(sa.column, ("id", "recipient_name", "recipient", "kind", "found_by")))
    for row in connection.execute(sa.select(messages)).all():
        found_by = key(f"{row.recipient_name} {row.recipient} {row.kind.replace('-', ' ')}")
        connection.execute(sa.update(messages).where(messages.c.id == row.id).values(found_by=found_by))
