"""The language of the pages: switched before signing in, and chosen with the time zone beside one's profile."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from webapp import access, htmx, reading
from webapp.access import Access, allow, current_actor, current_user
from webapp.blueprints import database
from webapp.errors import Invalid
from webapp.forms.language import LanguageForm
from webapp.i18n import Reader, read_by, valid_language
from webapp.i18n import gettext as _
from webapp.identity import languages
from webapp.identity.users import get_user

bp = Blueprint("language", __name__)


@bp.post("/language")
@allow(Access.PUBLIC)
def switch() -> BaseResponse:
    """Show the pages before signing in, and to whoever chose nothing else, in another language."""
    target = access.safe_next(request.form.get("next")) or url_for("session.sign_in")
    response = redirect(target, 303)
    language = valid_language(request.form.get("language"))
    if language:
        reading.remember(response, language)
    return response


@bp.get("/profile/language")
@allow(Access.SIGNED_IN)
def show() -> str:
    """Ask for language and time zone."""
    form = LanguageForm(formdata=None, obj=current_user())
    return render_template("profile/language.html", form=form, now=database().clock())


@bp.post("/profile/language")
@allow(Access.SIGNED_IN)
def choose() -> BaseResponse | tuple[str, int]:
    """Read in them from now on, in mails too."""
    form = LanguageForm()
    if form.validate():
        try:
            with database().transaction() as session:
                user = get_user(session, current_user().id)
                languages.choose(
                    session,
                    current_actor(),
                    user,
                    language=form.language.data or "",
                    time_zone=form.time_zone.data or "",
                )
        except Invalid as error:
            form.blame(error)
        else:
            reader = languages.reader_of(user)
            read_by(Reader(valid_language(user.language) or reader.language, reader.zone))
            flash(_("Your language and time zone were saved."))
            return htmx.done("language.show")
    return htmx.invalid("profile/language.html", form=form, now=database().clock())
