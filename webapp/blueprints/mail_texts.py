"""Mail texts: what each kind of mail says, changed by administrators with a preview beside it."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor
from webapp.blueprints import database
from webapp.errors import Invalid, NotFound
from webapp.forms.mail_texts import WordingForm
from webapp.i18n import gettext as _
from webapp.i18n import reader, valid_language
from webapp.mail import preview, rewording
from webapp.mail.kinds import OUTLINES
from webapp.mail.preview import Preview
from webapp.mail.rewording import WordingConflict
from webapp.outbox.messages import Kind

bp = Blueprint("mail_texts", __name__, url_prefix="/admin/mail-texts")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """Every kind of mail, and whether its text was changed."""
    with database().reading() as session:
        return render_template("mail_texts/index.html", standings=rewording.standings(session), outlines=OUTLINES)


@bp.get("/<kind>")
@allow(Access.ADMINISTRATOR)
def show(kind: str) -> str:
    """One mail: its subject and text, what they can name, and how it looks."""
    form = WordingForm(formdata=None)
    with database().reading() as session:
        form.show(rewording.standing(session, _kind(kind), _language()))
    return _page(_kind(kind), form)


@bp.post("/<kind>")
@allow(Access.ADMINISTRATOR)
def save(kind: str) -> Response | tuple[str, int]:
    """Save another wording, unless it is wrong or somebody else saved first."""
    form = WordingForm()
    if form.validate():
        try:
            with database().transaction() as session:
                rewording.reword(session, current_actor(), _kind(kind), language=_language(), **form.given())
        except WordingConflict as conflict:
            form.overtake(conflict.current.version)
            return _page(_kind(kind), form, conflict), 409
        except Invalid as error:
            form.blame(error)
        else:
            flash(_("The text was saved. Mails that are written from now on have it."))
            return htmx.done("mail_texts.show", kind=kind, language=_language())
    return _page(_kind(kind), form), htmx.INVALID


@bp.post("/<kind>/preview")
@allow(Access.ADMINISTRATOR)
def look(kind: str) -> str | tuple[str, int]:
    """How the mail would look with what is on the screen; nothing is saved."""
    form = WordingForm()
    if not htmx.is_htmx():
        return _page(_kind(kind), form)
    shown = _preview(_kind(kind), form)
    return render_template("mail_texts/_preview.html", preview=shown, form=form), 200 if shown else htmx.INVALID


@bp.post("/<kind>/restore")
@allow(Access.ADMINISTRATOR)
def restore(kind: str) -> Response | tuple[str, int]:
    """Let the text that comes with Keypost hold again."""
    form = WordingForm()
    try:
        with database().transaction() as session:
            rewording.restore(
                session, current_actor(), _kind(kind), version=form.version.data or 0, language=_language()
            )
    except WordingConflict as conflict:
        form.show(conflict.current)
        form.overtake(conflict.current.version)
        return _page(_kind(kind), form, conflict), 409
    flash(_("The default text holds again."))
    return htmx.done("mail_texts.show", kind=kind, language=_language())


def _kind(kind: str) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise NotFound(_("Keypost sends no such mail. Look it up in the list of mail texts.")) from None


def _language() -> str:
    """Whose words are on the screen: those of the language in the address, or else of the person's own."""
    return valid_language(request.args.get("language")) or reader().language


def _page(kind: Kind, form: WordingForm, conflict: WordingConflict | None = None) -> str:
    with database().reading() as session:
        standing = rewording.standing(session, kind, _language())
    return render_template(
        "mail_texts/edit.html",
        form=form,
        kind=kind,
        outline=OUTLINES[kind],
        standing=standing,
        conflict=conflict,
        preview=_preview(kind, form),
    )


def _preview(kind: Kind, form: WordingForm) -> Preview | None:
    """The mail in the form's words; None, with the reason at its field, when they are wrong."""
    try:
        with database().reading() as session:
            return preview.of_wording(session, kind, form.subject.data or "", form.text.data or "", _language())
    except Invalid as error:
        if not form.errors:
            form.blame(error)
        return None
