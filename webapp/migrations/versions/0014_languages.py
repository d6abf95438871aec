"""In which language and time zone each person reads, and a wording of mails for each language."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, length in (("language", 10), ("time_zone", 60), ("seen_language", 10), ("seen_zone", 60)):
        op.add_column("users", sa.Column(name, sa.String(length=length), nullable=False, server_default=""))
    with op.batch_alter_table("mail_wordings") as table:
        table.add_column(sa.Column("language", sa.String(length=10), nullable=False, server_default="en"))
        table.drop_constraint("pk_mail_wordings", type_="primary")
        table.create_primary_key("pk_mail_wordings", ["kind", "language"])
