"""Adding people: who added whom, what searches look at, links by purpose, quotas, forgotten passwords and imports."""

import hashlib
import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_users = sa.table(
    "users",
    sa.column("id", sa.Integer),
    sa.column("name", sa.String),
    sa.column("email", sa.String),
    sa.column("password_hash", sa.String),
    sa.column("search_key", sa.Text),
)


def upgrade() -> None:
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("search_key", sa.Text(), nullable=False, server_default=""))
        users.add_column(sa.Column("added_by", sa.String(length=320), nullable=False, server_default=""))
    for user in op.get_bind().execute(sa.select(_users)).all():
        op.execute(sa.update(_users).where(_users.c.id == user.id).values(search_key=_key(f"{user.name} {user.email}")))
    _links_by_purpose()
    op.create_table(
        "quota_counts",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("began_at", sa.DateTime(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_quota_counts"),
    )
    op.create_table(
        "forgotten_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("asked_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_forgotten_requests"),
    )
    _imports()


def _key(text: str) -> str:
    """As webapp.search.key() was when this was written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _links_by_purpose() -> None:
    """Each user may have a link of each purpose; those there are welcome people."""
    old = sa.table(
        "one_time_links", sa.column("user_id", sa.Integer), sa.column("token_hash", sa.String),
        sa.column("made_at", sa.DateTime),
    )  # fmt: skip
    hashes = {user.id: user.password_hash for user in op.get_bind().execute(sa.select(_users)).all()}
    kept = op.get_bind().execute(sa.select(old)).all()
    op.drop_table("one_time_links")
    new = op.create_table(
        "one_time_links",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("password_mark", sa.String(length=64), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_one_time_links_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "purpose", name="pk_one_time_links"),
        sa.UniqueConstraint("token_hash", name="uq_one_time_links_token_hash"),
    )
    for row in kept:
        mark = hashlib.sha256((hashes.get(row.user_id) or "").encode()).hexdigest()
        op.execute(sa.insert(new).values(**row._mapping, purpose="welcome", password_mark=mark))


def _imports() -> None:
    op.create_table(
        "user_imports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=10), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("encoding", sa.String(length=20), nullable=False),
        sa.Column("email_column", sa.Integer()),
        sa.Column("name_column", sa.Integer()),
        sa.Column("role_column", sa.Integer()),
        sa.Column("by_mail", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("total", "added", "there", "wrong")),
        sa.Column("actor_id", sa.Integer()),
        sa.Column("actor_name", sa.String(length=320), nullable=False),
        sa.Column("source", sa.String(length=100), nullable=False),
        sa.Column("made_at", sa.DateTime(), nullable=False),
        sa.Column("moved_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user_imports"),
    )
    op.create_index("ix_user_imports_stage", "user_imports", ["stage"])
    op.create_table(
        "user_import_lines",
        sa.Column("import_id", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("name", sa.String(length=320), nullable=False),
        sa.Column("role", sa.String(length=320), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["import_id"], ["user_imports.id"], name="fk_user_import_lines_import_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("import_id", "line", name="pk_user_import_lines"),
    )
