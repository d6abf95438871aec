"""An attempt that somebody asked for while mail is paused does not lengthen the wait for the next."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox_pause", sa.Column("asked", sa.Boolean(), nullable=False, server_default=sa.false()))
