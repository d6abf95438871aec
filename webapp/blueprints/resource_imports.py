"""Importing resources and accounts from a table: handed over, looked at, confirmed, and watched while it is done."""

from __future__ import annotations

from flask import Blueprint, Response, render_template
from werkzeug.wrappers import Response as BaseResponse

from webapp import htmx
from webapp.access import Access, allow, current_actor, current_sign_in
from webapp.blueprints import as_table, database, only_wrong, page_number
from webapp.db import Session
from webapp.errors import Invalid
from webapp.forms.resource_imports import ResourceColumnsForm
from webapp.forms.tables import TableForm
from webapp.importing import Stage
from webapp.vault import imports, inventory
from webapp.vault.imports import RESOURCES, ResourceImport
from webapp.vault.inventory import Columns

bp = Blueprint("resource_imports", __name__, url_prefix="/resources/import")


@bp.get("")
@allow(Access.SIGNED_IN)
def new() -> str:
    """Ask for a table."""
    return _new(TableForm(formdata=None))


@bp.post("")
@allow(Access.SIGNED_IN)
def create() -> BaseResponse | tuple[str, int]:
    """Keep it, sealed, to be looked at; nothing is added yet."""
    form = TableForm()
    try:
        with database().transaction() as session:
            made = imports.draft(session, current_actor(), form.content, title=form.title, sign_in_id=current_sign_in())
    except Invalid as error:
        form.blame(error)
        return _new(form), htmx.INVALID
    return htmx.done("resource_imports.show", import_id=made.id)


@bp.get("/<id:import_id>")
@allow(Access.SIGNED_IN)
def show(import_id: int) -> str:
    """What the import would do, is doing, or has done."""
    with database().reading() as session:
        found = _mine(session, import_id)
        if found.stage == Stage.DRAFT:
            return _draft(session, found)
        return render_template("resource_imports/show.html", **_results(session, found))


@bp.get("/<id:import_id>/_progress")
@allow(Access.SIGNED_IN)
def progress(import_id: int) -> str:
    """How far it has come, fresh."""
    with database().reading() as session:
        return render_template("resource_imports/_progress.html", **_results(session, _mine(session, import_id)))


@bp.post("/<id:import_id>/columns")
@allow(Access.SIGNED_IN)
def columns(import_id: int) -> BaseResponse | tuple[str, int]:
    """Say which column holds what, and what becomes of accounts that are there."""
    form = ResourceColumnsForm()
    try:
        with database().transaction() as session:
            found = _mine(session, import_id, lock=True)
            form.offer(imports.sheet_of(session, found))
            imports.choose(
                session,
                found,
                Columns(**form.chosen),
                has_heading=bool(form.has_heading.data),
                replace=form.replaces,
            )
    except Invalid as error:
        form.blame(error)
        with database().reading() as session:
            return _draft(session, _mine(session, import_id), form), htmx.INVALID
    return htmx.done("resource_imports.show", import_id=import_id)


@bp.post("/<id:import_id>/start")
@allow(Access.SIGNED_IN)
def start(import_id: int) -> BaseResponse | tuple[str, int]:
    """Have the lines added; a second click finds it begun."""
    try:
        with database().transaction() as session:
            imports.start(session, current_actor(), _mine(session, import_id, lock=True))
    except Invalid as error:
        with database().reading() as session:
            return _draft(session, _mine(session, import_id), error=error), htmx.INVALID
    return htmx.done("resource_imports.show", import_id=import_id)


@bp.post("/<id:import_id>/stop")
@allow(Access.SIGNED_IN)
def stop(import_id: int) -> BaseResponse:
    """End it after the lines that are done."""
    with database().transaction() as session:
        RESOURCES.stop(session, current_actor(), _mine(session, import_id).id)
    return htmx.done("resource_imports.show", import_id=import_id)


@bp.get("/<id:import_id>/results.csv")
@allow(Access.SIGNED_IN)
def download(import_id: int) -> Response:
    """The result of every line, as a table without passwords."""
    with database().reading() as session:
        text = imports.results_as_text(session, _mine(session, import_id))
    return as_table(text, f"keypost-import-{import_id}.csv")


def _mine(session: Session, import_id: int, *, lock: bool = False) -> ResourceImport:
    return imports.get_import(session, current_actor(), import_id, sign_in_id=current_sign_in(), lock=lock)


def _new(form: TableForm) -> str:
    with database().reading() as session:
        latest = RESOURCES.latest(session, ResourceImport.actor_id == current_actor().id)
    return render_template("resource_imports/new.html", form=form, latest=latest)


def _draft(
    session: Session, found: ResourceImport, typed: ResourceColumnsForm | None = None, error: Invalid | None = None
) -> str:
    preview = imports.preview(session, current_actor(), found, page=page_number(), only_wrong=only_wrong())
    form = typed or _chosen(found)
    form.offer(preview.sheet)
    if error is not None:
        form.blame(error)
    return render_template(
        "resource_imports/preview.html",
        found=found,
        preview=preview,
        form=form,
        left_over=inventory.left_over(preview.sheet, found.columns),
    )


def _chosen(found: ResourceImport) -> ResourceColumnsForm:
    there = "replace" if found.replace else "skip"
    form = ResourceColumnsForm(formdata=None, data={"has_heading": found.has_heading, "there": there})
    form.show(found.columns._asdict())
    return form


def _results(session: Session, found: ResourceImport) -> dict[str, object]:
    results = RESOURCES.results(session, found.id, page=page_number(), only_wrong=only_wrong())
    return {
        "found": found,
        "results": results,
        "lines": imports.named(session, results.items) if found.is_over else [],
        "only_wrong": only_wrong(),
        "is_idle": RESOURCES.is_idle(session, found),
    }
