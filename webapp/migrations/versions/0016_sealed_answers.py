"""What a form was answered is sealed: for a second click it opens the session that the first one opened."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM submissions")
    with op.batch_alter_table("submissions") as table:
        table.drop_column("answer")
        table.add_column(sa.Column("sealed", sa.LargeBinary(), nullable=True))
