"""Importing people from a table: handed over, looked at, confirmed, and watched while it is done."""

from __future__ import annotations

from flask import Blueprint, Response, render_template
from werkzeug.wrappers import Response as BaseResponse

from webapp import htmx
from webapp.access import Access, allow, current_actor, require_proof
from webapp.blueprints import as_table, database, only_wrong, page_number
from webapp.db import Session
from webapp.errors import Invalid
from webapp.forms.people import ImportForm, PeopleColumnsForm, StartForm
from webapp.identity import imports
from webapp.identity.imports import PEOPLE, UserImport
from webapp.identity.roster import Columns
from webapp.importing import Stage
from webapp.mail.leaving import leaving

bp = Blueprint("imports", __name__, url_prefix="/admin/users/import")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def new() -> str:
    """Ask for a table."""
    return _new(ImportForm(formdata=None))


@bp.post("")
@allow(Access.ADMINISTRATOR)
def create() -> BaseResponse | tuple[str, int]:
    """Keep it to be looked at; nobody is added yet."""
    form = ImportForm()
    try:
        with database().transaction() as session:
            made = imports.draft(session, current_actor(), form.content, title=form.title)
    except Invalid as error:
        form.blame(error)
        return _new(form), htmx.INVALID
    return htmx.done("imports.show", import_id=made.id)


@bp.get("/<id:import_id>")
@allow(Access.ADMINISTRATOR)
def show(import_id: int) -> str:
    """What the import would do, is doing, or has done."""
    with database().reading() as session:
        found = imports.get_import(session, import_id)
        if found.stage == Stage.DRAFT.value:
            return _draft(session, found)
        return render_template("imports/show.html", **_results(session, found))


@bp.get("/<id:import_id>/_progress")
@allow(Access.ADMINISTRATOR)
def progress(import_id: int) -> str:
    """How far it has come, fresh."""
    with database().reading() as session:
        return render_template("imports/_progress.html", **_results(session, imports.get_import(session, import_id)))


@bp.post("/<id:import_id>/columns")
@allow(Access.ADMINISTRATOR)
def columns(import_id: int) -> BaseResponse | tuple[str, int]:
    """Say which column holds what."""
    form = PeopleColumnsForm()
    try:
        with database().transaction() as session:
            form.offer(imports.preview(session, import_id).sheet)
            imports.choose_columns(session, import_id, Columns(**form.chosen))
    except Invalid as error:
        form.blame(error)
        with database().reading() as session:
            return _draft(session, imports.get_import(session, import_id), form), htmx.INVALID
    return htmx.done("imports.show", import_id=import_id)


@bp.post("/<id:import_id>/start")
@allow(Access.ADMINISTRATOR)
def start(import_id: int) -> BaseResponse | tuple[str, int]:
    """Have the people added; a second click finds it begun."""
    form = StartForm()
    with database().reading() as session:
        administrators_too = imports.makes_administrators(session, import_id)
    try:
        if administrators_too:
            require_proof()
        with database().transaction() as session:
            imports.start(
                session,
                current_actor(),
                import_id,
                by_mail=bool(form.by_mail.data),
                administrators_too=administrators_too,
            )
    except Invalid as error:
        form.problem = str(error)
        with database().reading() as session:
            return _draft(session, imports.get_import(session, import_id), start=form), htmx.INVALID
    return htmx.done("imports.show", import_id=import_id)


@bp.post("/<id:import_id>/stop")
@allow(Access.ADMINISTRATOR)
def stop(import_id: int) -> BaseResponse:
    """End it after the lines that are done."""
    with database().transaction() as session:
        PEOPLE.stop(session, current_actor(), import_id)
    return htmx.done("imports.show", import_id=import_id)


@bp.get("/<id:import_id>/results.csv")
@allow(Access.ADMINISTRATOR)
def download(import_id: int) -> Response:
    """The result of every line, as a table."""
    with database().reading() as session:
        return as_table(imports.results_as_text(session, import_id), f"keypost-import-{import_id}.csv")


def _new(form: ImportForm) -> str:
    with database().reading() as session:
        return render_template("imports/new.html", form=form, latest=PEOPLE.latest(session))


def _draft(
    session: Session, found: UserImport, columns: PeopleColumnsForm | None = None, start: StartForm | None = None
) -> str:
    preview = imports.preview(session, found.id, page=page_number(), only_wrong=only_wrong())
    form = PeopleColumnsForm(formdata=None)
    form.offer(preview.sheet)
    form.show(found.columns._asdict())
    return render_template(
        "imports/preview.html",
        found=found,
        makes_administrators=imports.makes_administrators(session, found.id),
        preview=preview,
        columns=columns or form,
        start=start or StartForm(formdata=None),
        mail=leaving(session),
    )


def _results(session: Session, found: UserImport) -> dict[str, object]:
    return {
        "found": found,
        "results": PEOPLE.results(session, found.id, page=page_number(), only_wrong=only_wrong()),
        "only_wrong": only_wrong(),
        "is_idle": PEOPLE.is_idle(session, found),
        "mail": leaving(session),
    }
