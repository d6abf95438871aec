"""The wordings that administrators changed, kept beside the defaults: changed, previewed and restored here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Base, Session, UtcDateTime
from webapp.errors import Conflict, Invalid
from webapp.i18n import LANGUAGES, SOURCE
from webapp.i18n import gettext as _
from webapp.mail import wording
from webapp.mail.address import valid_header_text
from webapp.mail.wording import Wording
from webapp.outbox.messages import Kind

LONGEST_SUBJECT: Final = 200
LONGEST_TEXT: Final = 10_000


class MailWording(Base):
    """What was last saved for one kind in one language; without a subject and a text the default holds again."""

    __tablename__ = "mail_wordings"

    kind: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    language: Mapped[str] = mapped_column(sa.String(10), primary_key=True, server_default=SOURCE)
    subject: Mapped[str | None] = mapped_column(sa.String(LONGEST_SUBJECT))
    text: Mapped[str | None] = mapped_column(sa.Text)
    version: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_by_name: Mapped[str] = mapped_column(sa.String(320))


@dataclass(frozen=True, slots=True)
class Standing:
    """The wording of a kind as it is now. version: 0 until somebody changes it. edited_at, edited_by: None and "" for
    the default."""

    kind: Kind
    wording: Wording
    version: int
    edited_at: datetime | None = None
    edited_by: str = ""
    language: str = SOURCE

    @property
    def is_edited(self) -> bool:
        return self.edited_at is not None


class WordingConflict(Conflict):
    """Somebody changed the same wording in the meantime: ``current`` is what stands now."""

    def __init__(self, current: Standing, by: str) -> None:
        super().__init__(
            _(
                "%(by)s changed this mail while you were at it. Nothing of yours was saved. Compare the "
                "two, and save again what should hold.",
                by=by,
            )
        )
        self.current = current


def edited(session: Session) -> dict[tuple[Kind, str], Wording]:
    """Every wording that differs from its default, by kind and language."""
    rows = session.scalars(sa.select(MailWording).where(MailWording.text.is_not(None)))
    return {
        (Kind(row.kind), row.language): Wording(row.subject or "", row.text or "")
        for row in rows
        if row.kind in set(Kind)
    }


def standing(session: Session, kind: Kind, language: str = SOURCE) -> Standing:
    """How one kind is worded now."""
    return _standing(kind, language, session.get(MailWording, (kind.value, language), populate_existing=True))


def standings(session: Session) -> dict[Kind, list[Standing]]:
    """How each kind is worded now, in each language."""
    rows = {(row.kind, row.language): row for row in session.scalars(sa.select(MailWording))}
    return {
        kind: [_standing(kind, language, rows.get((kind.value, language))) for language in LANGUAGES] for kind in Kind
    }


def checked(kind: Kind, subject: str, text: str) -> Wording:
    """What was typed, as it is kept. Raises Invalid with the field at fault."""
    subject = valid_header_text(subject, field="subject")
    text = "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").strip().split("\n"))
    if not subject:
        raise Invalid(_("Give the mail a subject."), "subject")
    if len(subject) > LONGEST_SUBJECT:
        raise Invalid(
            _("A subject has at most %(longest_subject)s characters.", longest_subject=LONGEST_SUBJECT), "subject"
        )
    if len(text) > LONGEST_TEXT:
        raise Invalid(_("A text has at most %(longest_text)s characters.", longest_text=LONGEST_TEXT), "text")
    given = Wording(subject, text + "\n")
    wording.check(kind, given)
    return given


def reword(
    session: Session, actor: Actor, kind: Kind, *, subject: str, text: str, version: int, language: str = SOURCE
) -> Standing:
    """Save another wording, in the caller's transaction. Raises Invalid with the field at fault, or WordingConflict.

    version: of the standing that the person saw. Saving the default's own words restores it.
    """
    given = checked(kind, subject, text)
    if given == wording.default(kind, language):
        return restore(session, actor, kind, version=version, language=language)
    now = _write(session, actor, kind, language, given, version=version)
    trail.record(session, actor, "mail-text:edit", subject=f"mail-text:{kind}", version=now.version, language=language)
    return now


def restore(session: Session, actor: Actor, kind: Kind, *, version: int, language: str = SOURCE) -> Standing:
    """Let the default hold again, in the caller's transaction. Raises WordingConflict."""
    before = standing(session, kind, language)
    if not before.is_edited and before.version == version:
        return before
    now = _write(session, actor, kind, language, None, version=version)
    trail.record(
        session, actor, "mail-text:restore", subject=f"mail-text:{kind}", version=now.version, language=language
    )
    return now


def _write(
    session: Session, actor: Actor, kind: Kind, language: str, given: Wording | None, *, version: int
) -> Standing:
    session.add_unless_there(
        MailWording,
        kind=kind.value,
        language=language,
        subject=None,
        text=None,
        version=0,
        updated_at=session.now(),
        updated_by_name=actor.name[:320],
    )
    written = session.connection().execute(
        sa.update(MailWording)
        .where(MailWording.kind == kind.value, MailWording.language == language, MailWording.version == version)
        .values(
            subject=given.subject if given else None,
            text=given.text if given else None,
            version=version + 1,
            updated_at=session.now(),
            updated_by_name=actor.name[:320],
        )
    )
    row = session.get_one(MailWording, (kind.value, language), populate_existing=True)
    if not written.rowcount:
        raise WordingConflict(_standing(kind, language, row), row.updated_by_name)
    return _standing(kind, language, row)


def _standing(kind: Kind, language: str, row: MailWording | None) -> Standing:
    if row is None or row.text is None:
        default = wording.default(kind, language)
        return Standing(kind, default, row.version if row is not None else 0, language=language)
    given = Wording(row.subject or "", row.text)
    return Standing(kind, given, row.version, row.updated_at, row.updated_by_name, language)
