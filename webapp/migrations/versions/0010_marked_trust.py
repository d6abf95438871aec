"""A mark on each trusted certificate that only the master key makes, and when the mail login was given.

Certificates imported before have no mark and count for nothing until they are imported again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trusted_certificates", sa.Column("mark", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("mail_settings", sa.Column("credential_set_at", sa.DateTime()))
    op.add_column("mail_settings", sa.Column("credential_set_by_id", sa.Integer()))
