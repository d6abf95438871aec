"""Lines of the audit trail are never changed, and go from the front alone, under a sealed checkpoint."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_GUARDS = {
    "sqlite": (
        """
        CREATE TRIGGER audit_lines_no_update BEFORE UPDATE ON audit_lines
        BEGIN SELECT RAISE(ABORT, 'lines of the audit trail are never changed'); END
        """,
        """
        CREATE TRIGGER audit_lines_no_delete BEFORE DELETE ON audit_lines
        WHEN OLD.id > COALESCE((SELECT line_id FROM audit_checkpoint WHERE id = 1), 0)
        BEGIN SELECT RAISE(ABORT, 'lines of the audit trail are never removed'); END
        """,
    ),
    "postgresql": (
        """
        CREATE FUNCTION audit_lines_guard() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                IF OLD.id <= COALESCE((SELECT line_id FROM audit_checkpoint WHERE id = 1), 0) THEN
                    RETURN OLD;
                END IF;
            END IF;
            RAISE EXCEPTION 'lines of the audit trail are never changed';
        END $$
        """,
        """
        CREATE TRIGGER audit_lines_guard BEFORE UPDATE OR DELETE ON audit_lines
        FOR EACH ROW EXECUTE FUNCTION audit_lines_guard()
        """,
        """
        CREATE TRIGGER audit_lines_no_truncate BEFORE TRUNCATE ON audit_lines
        FOR EACH STATEMENT EXECUTE FUNCTION audit_lines_guard()
        """,
    ),
}


def upgrade() -> None:
    op.create_table(
        "audit_checkpoint",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("line_id", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("seal", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_checkpoint"),
    )
    for statement in _GUARDS[op.get_bind().dialect.name]:
        op.execute(statement)
