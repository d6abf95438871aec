"""Certificates trusted for mail connections."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor, require_proof
from webapp.blueprints import database
from webapp.errors import Invalid, NotFound
from webapp.forms.certificates import ImportForm
from webapp.i18n import gettext as _
from webapp.mail import reliance
from webapp.trust import store
from webapp.trust.certificates import CertificateRefused, refuse_private_key
from webapp.trust.store import Imported

bp = Blueprint("certificates", __name__, url_prefix="/admin/certificates")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def index() -> str:
    """What is trusted beyond the public authorities, and the form that adds to it."""
    return _index(ImportForm(formdata=None))


@bp.post("")
@allow(Access.ADMINISTRATOR)
def import_() -> Response | tuple[str, int]:
    """Trust what a file or a text holds."""
    form = ImportForm()
    try:
        # Before the page is shown once more, with a question and all that was pasted.
        refuse_private_key((form.pem.data or "").encode())
        require_proof()
        with database().transaction() as session:
            imported = store.import_certificates(session, current_actor(), form.content, source=form.source)
    except CertificateRefused as refused:
        form.problem = _("%(refused)s Nothing was imported.", refused=refused)
        # Whatever was pasted is not shown again: it may have been a private key.
        form.pem.data = ""
        return _index(form), htmx.INVALID
    except Invalid as error:
        form.blame(error)
        return _index(form), htmx.INVALID
    for each in imported:
        flash(_said_of(each))
    return htmx.done("certificates.index")


@bp.get("/<sha256>")
@allow(Access.ADMINISTRATOR)
def show(sha256: str) -> str:
    """One certificate: what it is, where it is trusted, what uses it, and the way to remove it."""
    with database().reading() as session:
        standings = [each for each in reliance.standings(session) if each.certificate.sha256 == sha256]
    if not standings:
        raise NotFound(_("This certificate is not trusted, or not any more. Look it up in the list."))
    return render_template("certificates/show.html", standings=standings, about=standings[0].certificate.description)


@bp.post("/<sha256>/remove")
@allow(Access.ADMINISTRATOR)
def remove(sha256: str) -> Response:
    """Trust it no longer: at the host and port named, or else anywhere."""
    host, port = request.form.get("host") or None, request.form.get("port", type=int)
    with database().transaction() as session:
        store.remove(session, current_actor(), sha256, host=host, port=port if host else None)
    flash(_("The certificate is not trusted any more."))
    return htmx.done("certificates.index")


def _index(form: ImportForm) -> str:
    with database().reading() as session:
        return render_template(
            "certificates/index.html",
            form=form,
            standings=reliance.standings(session),
            own=reliance.own_certificate(session),
        )


def _said_of(imported: Imported) -> str:
    about = imported.description
    if imported.already_there:
        return _(
            "%(label)s was trusted already (SHA-256 %(fingerprint)s).", label=about.label, fingerprint=about.fingerprint
        )
    return _(
        "%(label)s is trusted for mail connections from now on (SHA-256 %(fingerprint)s).",
        label=about.label,
        fingerprint=about.fingerprint,
    )
