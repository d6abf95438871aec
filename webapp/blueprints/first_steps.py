"""What an administrator does first, ticked by what is there; gone once all of it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask import Blueprint, render_template, url_for
from sqlalchemy.exc import SQLAlchemyError

from webapp.access import Access, allow
from webapp.blueprints import database
from webapp.db import Session
from webapp.i18n import gettext as _
from webapp.identity.users import count_users
from webapp.mail import checks, settings
from webapp.vault import accounts

bp = Blueprint("first_steps", __name__, url_prefix="/admin/_first-steps")

_MAIL: Final = "mail_settings.show"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. in_dialog: whether it opens above the page."""

    label: str
    why: str
    url: str
    done: bool
    in_dialog: bool = False


@bp.get("")
@allow(Access.ADMINISTRATOR)
def show() -> str:
    """The list, fresh; empty when everything is done."""
    return render_template("admin/_first-steps.html")


def first_steps() -> list[Step]:
    """What is to be done, for the top of an administrator's start page; nothing when all is, or cannot be known."""
    try:
        with database().reading() as session:
            steps = _steps(session)
    except SQLAlchemyError:  # The page itself says what is wrong with the database.
        return []
    return [] if all(step.done for step in steps) else steps


def _steps(session: Session) -> list[Step]:
    saved = settings.current(session) is not None
    return [
        Step(
            _("Add the mailbox account"),
            _("Add your mail provider as a resource, and on it the account that mail is sent from."),
            url_for("resources.new", kind="Mail service"),
            saved or accounts.is_any(session),
        ),
        Step(_("Connect mail"), _("Name the mail server, and choose that account."), url_for(_MAIL), saved, True),
        Step(_("Send a test mail"), _("Every stage is shown; what fails is explained."), url_for(_MAIL),
             checks.was_ever_sent(session), True),
        Step(_("Add people"), _("Each gets a mail with a link, and sets a password."), url_for("users.new"),
             count_users(session) > 1),
    ]  # fmt: skip
