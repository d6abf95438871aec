"""Find settings: what a mail address or a server name alone leads to, shown while it answers."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response, render_template, request

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import database, mail_settings, trust
from webapp.errors import Invalid, Refused
from webapp.forms.mail import MailSettingsForm
from webapp.mail.discovery import FIELD, Found, Search, prepare_search

bp = Blueprint("mail_discovery", __name__, url_prefix="/admin/settings/mail")

_LONGEST = 400


@bp.post("/find")
@allow(Access.ADMINISTRATOR)
def find() -> Response | str | tuple[str, int]:
    """Look for the settings; they are filled into the form at most. Nothing is saved, and no password leaves."""
    text = request.form.get(FIELD, "")[:_LONGEST]
    try:
        search = prepare_search(database(), trust(), current_actor(), text)
    except Invalid as error:
        return _not_sought(text, str(error), htmx.INVALID)
    except Refused as error:
        return _not_sought(text, str(error), htmx.TOO_MANY)
    if htmx.wants_stream():
        return htmx.stream(_stream(search))
    *_, found = search.run()
    if htmx.is_htmx():
        return _found(found)
    return _page(text, found)


def _stream(search: Search) -> Iterator[str]:
    """The fragment, anew each time something answers."""
    for found in search.run():
        yield _found(found)


def _found(found: Found) -> str:
    return render_template("mail_settings/_found.html", found=found, best=_filled_in(found), not_sought="")


def _page(text: str, found: Found) -> str:
    form = MailSettingsForm()
    best = _filled_in(found)
    form.fill(best)
    return mail_settings.page(form, found=found, best=best, find_from=text)


def _filled_in(found: Found) -> str:
    """The fields to fill in without a click: the safest, and only where no server name was typed yet."""
    return found.best.fill if found.best and not request.form.get("server_name", "").strip() else ""


def _not_sought(text: str, why: str, status: int) -> tuple[str, int]:
    if htmx.is_htmx():
        return render_template("mail_settings/_found.html", found=None, best="", not_sought=why), status
    return mail_settings.page(MailSettingsForm(), not_sought=why, find_from=text), status
