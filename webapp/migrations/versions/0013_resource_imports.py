"""Importing resources: tables of accounts, sealed, and what became of each line."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "resource_imports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=10), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("encoding", sa.String(length=20), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("total", "added", "there", "wrong", "replaced")),
        sa.Column("actor_id", sa.Integer()),
        sa.Column("actor_name", sa.String(length=320), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("moved_at", sa.DateTime(), nullable=False),
        sa.Column("sign_in_id", sa.Integer()),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("has_heading", sa.Boolean(), nullable=False),
        sa.Column("columns_json", sa.Text(), nullable=False),
        sa.Column("replace", sa.Boolean(), nullable=False),
        sa.Column("owner_id", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["sign_in_id"], ["sign_ins.id"], name="fk_resource_imports_sign_in_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_resource_imports"),
    )
    op.create_index("ix_resource_imports_stage", "resource_imports", ["stage"])
    op.create_index("ix_resource_imports_sign_in_id", "resource_imports", ["sign_in_id"])
    op.create_table(
        "resource_import_lines",
        sa.Column("import_id", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("named", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary()),
        sa.Column("resource_id", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["import_id"],
            ["resource_imports.id"],
            name="fk_resource_import_lines_import_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("import_id", "line", name="pk_resource_import_lines"),
    )
