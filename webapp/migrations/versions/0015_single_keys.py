"""Whether a key alone does something on the pages, for each person: who speaks to the machine can switch it off."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("single_keys", sa.Boolean(), nullable=False, server_default=sa.true()))
