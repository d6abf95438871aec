"""Users: who they are, their role, and their password."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

from webapp import search
from webapp.actor import Actor, Role
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Conflict, Invalid, NotFound
from webapp.i18n import gettext as _
from webapp.i18n import later, reader
from webapp.identity import passwords
from webapp.identity.telling import tell
from webapp.keyring import Secret
from webapp.outbox.messages import Kind

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f<>\"(),:;\\\[\]]{1,64}@[^@\s\x00-\x1f\x7f<>\"(),:;\\\[\]]{1,253}")


class User(Base):
    """A person who can sign in. ``email`` is kept as typed, ``email_key`` is what is compared.

    ``session_epoch`` is counted up by whatever must end the user's sessions: one begun in an earlier epoch is over.
    search_key: what a search looks at, name and address. added_by: the name of who added them.
    language, time_zone: what they chose to read in, blank to follow the browser. seen_language, seen_zone: what their
    browser said last; see identity.languages. single_keys: whether a key alone does something on the pages.
    """

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(320))
    # Case folding can make three characters of one.
    email_key: Mapped[str] = mapped_column(sa.String(960), unique=True)
    name: Mapped[str] = mapped_column(sa.String(200))
    role: Mapped[str] = mapped_column(sa.String(40))
    password_hash: Mapped[str | None] = mapped_column(sa.String(300))
    active: Mapped[bool] = mapped_column(default=True)
    session_epoch: Mapped[int] = mapped_column(default=0)
    search_key: Mapped[str] = mapped_column(sa.Text)
    added_by: Mapped[str] = mapped_column(sa.String(320))
    language: Mapped[str] = mapped_column(sa.String(10), default="", server_default="")
    time_zone: Mapped[str] = mapped_column(sa.String(60), default="", server_default="")
    seen_language: Mapped[str] = mapped_column(sa.String(10), default="", server_default="")
    seen_zone: Mapped[str] = mapped_column(sa.String(60), default="", server_default="")
    single_keys: Mapped[bool] = mapped_column(default=True, server_default=sa.true())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    def actor(self, source: str) -> Actor:
        """This user acting from ``source``, an address or the command line."""
        return Actor(self.id, self.name, source, Role(self.role))

    @property
    def role_label(self) -> str:
        """The role's name as pages write it."""
        return Role(self.role).label

    def words(self) -> tuple[str, ...]:
        """What everybody knows of this user and nobody's password should be made of."""
        return (self.name, self.email)


def add_user(
    session: Session, actor: Actor, *, email: str, name: str, role: Role, password: Secret | None = None
) -> User:
    """Add a user. Raises Invalid with the field at fault."""
    email, name = check_email(email), check_name(name)
    if find_user(session, email) is not None:
        raise Invalid(_("There is already a user with the address %(email)s.", email=email), "email")
    if password is not None:
        passwords.check_new(password, about=(name, email))
    user = User(
        email=email,
        email_key=email_key(email),
        name=name,
        role=role.value,
        password_hash=passwords.hash_password(password) if password is not None else None,
        active=True,
        session_epoch=0,
        search_key=_search_key(name, email),
        added_by=actor.name[:320],
        # Until they have come here themselves.
        seen_language=reader().language,
        seen_zone=reader().zone,
        created_at=session.now(),
    )
    try:
        with session.begin_nested():
            session.add(user)
    except IntegrityError:  # Somebody else added the address after we had looked.
        raise Invalid(_("There is already a user with the address %(email)s.", email=email), "email") from None
    trail.record(session, actor, "user:add", subject=f"user:{user.id}", email=email, role=role.value)
    return user


def check_name(name: str) -> str:
    """A person's name as it is kept. Raises Invalid."""
    name = " ".join(name.split())
    if not name:
        raise Invalid(_("Give the person's name."), "name")
    if len(name) > 200 or not name.isprintable():
        raise Invalid(_("A name has at most 200 printable characters."), "name")
    return name


def check_email(email: str) -> str:
    """An address as it is kept. Raises Invalid."""
    email = email.strip()
    if not _EMAIL.fullmatch(email) or len(email) > 320 or not email.isprintable():
        raise Invalid(_("That is not an e-mail address. It looks like name@example.com."), "email")
    return email


def email_key(email: str) -> str:
    """What two spellings of one address have in common."""
    return email.strip().casefold()


def _search_key(name: str, email: str) -> str:
    return search.key(f"{name} {email}")


def find_user(session: Session, email: str) -> User | None:
    return session.scalar(sa.select(User).where(User.email_key == email_key(email)))


def get_user(session: Session, user_id: int) -> User:
    """Raises NotFound."""
    user = session.get(User, user_id)
    if user is None:
        raise NotFound(_("There is no such user."))
    return user


def users_by_name(session: Session) -> Sequence[User]:
    return session.scalars(sa.select(User).order_by(sa.func.lower(User.name), User.id)).all()


def active_administrators(session: Session) -> Sequence[User]:
    """Whom warnings about the whole installation are for."""
    return session.scalars(
        sa.select(User).where(User.role == Role.ADMINISTRATOR.value, User.active).order_by(User.id)
    ).all()


def count_users(session: Session) -> int:
    return session.scalar(sa.select(sa.func.count()).select_from(User)) or 0


def set_password(session: Session, actor: Actor, user: User, password: Secret) -> None:
    """Give ``user`` a new password, which ends their sessions. Raises Invalid."""
    passwords.check_new(password, about=user.words())
    user.password_hash = passwords.hash_password(password)
    sign_out_everywhere(session, user)
    trail.record(session, actor, "user:set-password", subject=f"user:{user.id}")


def sign_out_everywhere(session: Session, user: User) -> None:
    """End every session of the user, at its next request, once this transaction commits."""
    user.session_epoch = User.session_epoch + 1  # Counted by the database: two at once must not count as one.
    session.flush()


def edit_user(session: Session, actor: Actor, user_id: int, *, name: str, role: Role, active: bool) -> User:
    """Change a user's name and role, or disable and enable them; another role and disabling end their sessions.

    A user is told of another role by mail.

    Raises NotFound, Invalid with the field at fault, and Conflict for the last administrator.
    """
    user = get_user(session, user_id)
    name = check_name(name)
    if role is not Role.ADMINISTRATOR or not active:
        _refuse_last_administrator(session, user)
    changed = [
        field
        for field, old, new in (("name", user.name, name), ("role", user.role, role), ("active", user.active, active))
        if old != new
    ]
    if {"role", "active"} & set(changed):
        sign_out_everywhere(session, user)
    before = Role(user.role)
    if changed:
        user.name, user.role, user.active = name, role.value, active
        user.search_key = _search_key(name, user.email)
        trail.record(
            session, actor, "user:edit", subject=f"user:{user.id}", changed=changed, role=role.value, active=active
        )
    if role is not before:
        about = f"user:{user.id}"
        tell(
            session,
            actor,
            user,
            Kind.ROLE_CHANGED,
            about=about,
            role=later(getattr, role, "label"),
            before=later(getattr, before, "label"),
        )
    return user


def _refuse_last_administrator(session: Session, user: User) -> None:
    """Hold all administrators still, so that two cannot demote each other at the same moment.

    Who has set no password yet may never do so: their mail may have gone astray, and its link expires.
    """
    active = sa.select(User.id, User.password_hash.is_not(None)).where(
        User.role == Role.ADMINISTRATOR.value, User.active
    )
    has_password = {id: has for id, has in session.execute(active.order_by(User.id).with_for_update())}
    if list(has_password) == [user.id]:
        raise Conflict(
            _(
                "%(name)s is the only administrator, and somebody must be. Make another user an administrator first.",
                name=user.name,
            )
        )
    if [id for id, has in has_password.items() if has] == [user.id]:
        raise Conflict(
            _(
                "%(name)s is the only administrator who has set a password, and one must be able to sign in. Wait "
                "until another has set theirs, or make somebody who has one an administrator first.",
                name=user.name,
            )
        )
