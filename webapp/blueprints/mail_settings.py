"""Mail Server Settings: the form, its swapping parts, the test, and saving."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, flash, render_template, request
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.access import Access, allow, current_actor, current_user, require_proof
from webapp.blueprints import LARGEST_ID, database, trust
from webapp.db import Session
from webapp.errors import Invalid, Problem, Refused
from webapp.forms.mail import ConfirmationForm, MailSettingsForm
from webapp.i18n import gettext as _
from webapp.mail import checks, confirmation, preview, settings
from webapp.mail.address import valid_port, valid_server_name
from webapp.mail.checks import MailCheck
from webapp.mail.exhibit import Exhibit
from webapp.mail.preview import Preview
from webapp.mail.probe import Result, Stage
from webapp.mail.settings import InvalidFields, VersionConflict
from webapp.mail.transport import Server
from webapp.mail.trial import Trial, prepare_trial
from webapp.trust import seen
from webapp.vault import accounts

bp = Blueprint("mail_settings", __name__, url_prefix="/admin/settings/mail")


@bp.get("")
@allow(Access.ADMINISTRATOR)
def show() -> str:
    """The settings as they are saved."""
    form = MailSettingsForm(formdata=None)
    with database().reading() as session:
        _show(session, form)
    form.test_recipient.data = current_user().email
    return page(form)


def _show(session: Session, form: MailSettingsForm) -> None:
    """Fill in what is saved; before that, the account if there is but one to choose."""
    saved = settings.current(session)
    form.show(saved)
    if saved is None:
        choices = accounts.choices(session, current_actor(), limit=2)
        form.account_id.data = choices[0].id if len(choices) == 1 else None


@bp.post("")
@allow(Access.ADMINISTRATOR)
def save() -> Response | tuple[str, int]:
    """Save what is on the screen, unless it is wrong or somebody else saved first."""
    form = MailSettingsForm()
    if form.validate():
        try:
            require_proof()
            with database().transaction() as session:
                settings.save(session, current_actor(), form.draft())
        except VersionConflict as conflict:
            form.overtake(conflict.current.version)
            return page(form, conflict=conflict), 409
        except Invalid as error:
            form.blame(error)
        except InvalidFields as error:
            form.blame_all(error.errors)
        else:
            if not htmx.is_htmx():
                flash(_("The mail server settings were saved."))
            return htmx.done("admin.index", event="mail-settings-saved", say=_("The mail server settings were saved."))
    return page(form), htmx.INVALID


@bp.post("/form")
@allow(Access.ADMINISTRATOR)
def redraw() -> str:
    """The form again, with what was typed: how the choices work where no script runs. Nothing is saved."""
    form = MailSettingsForm()
    form.fill(request.form.get("fill", ""))
    return page(form)


@bp.post("/preview")
@allow(Access.ADMINISTRATOR)
def look() -> str | tuple[str, int]:
    """The mail that a new user would get, with the sender and the Access URL on the screen; nothing is saved."""
    form = MailSettingsForm()
    shown = _mail_preview(form)
    if not htmx.is_htmx():
        return page(form, preview=shown), 200 if shown else htmx.INVALID
    return render_template("mail_settings/_preview.html", preview=shown, form=form), 200 if shown else htmx.INVALID


def _mail_preview(form: MailSettingsForm) -> Preview | None:
    """None, with the reason at its field, when the sender or the Access URL cannot be used."""
    try:
        with database().reading() as session:
            return preview.of_settings(
                session,
                sender_address=form.sender_address.data or "",
                sender_name=form.sender_name.data or "",
                access_url=form.access_url.data or "",
            )
    except Invalid as error:
        form.blame(error)
        return None


@bp.get("/_auth-section")
@allow(Access.ADMINISTRATOR)
def auth_section() -> str:
    """The fields of one way to sign in."""
    form = MailSettingsForm(formdata=None)
    with database().reading() as session:
        _show(session, form)
        source = "account" if request.args.get("credential_source") == "account" else "manual"
        return render_template(f"mail_settings/_auth_{source}.html", form=form, **_auth_context(session, form))


@bp.get("/_accounts")
@allow(Access.ADMINISTRATOR)
def account_options() -> str:
    """What the account picker offers for the words typed."""
    form = MailSettingsForm(formdata=None)
    form.q.data = request.args.get("q", "")[:200]
    chosen = request.args.get("account_id", type=int)
    form.account_id.data = chosen if chosen and 0 < chosen <= LARGEST_ID else None
    with database().reading() as session:
        return render_template("mail_settings/_accounts.html", form=form, **_auth_context(session, form))


@bp.post("/test")
@allow(Access.ADMINISTRATOR)
def test() -> Response | str | tuple[str, int]:
    """Try what is on the screen, with a remedy's fields over it if one was chosen; nothing is saved."""
    form = MailSettingsForm()
    form.fill(request.form.get("fill", ""))
    return _test(form)


@bp.post("/trust")
@allow(Access.ADMINISTRATOR)
def trust_presented() -> Response | str | tuple[str, int]:
    """Trust what the tested server presented, once its SHA-256 was compared, and test what is on the screen again.

    Of the form only server and port matter to the import; the settings stay as they are saved.
    """
    form = MailSettingsForm()
    try:
        require_proof()
        server_name, port = valid_server_name(form.server_name.data or ""), valid_port(form.draft().port)
        with database().transaction() as session:
            seen.trust_seen(session, current_actor(), server_name, port, request.form.get("sha256", ""))
    except Problem as problem:
        form.problem = str(problem)
        return _not_tested(form, presented=_presented_again(form))
    return _test(form, done=_("The certificate is trusted from now on.") + " ")


def _test(form: MailSettingsForm, *, done: str = "") -> Response | str | tuple[str, int]:
    try:
        trial = _trial(form)
    except Invalid as error:
        form.blame(error)
    except InvalidFields as error:
        form.blame_all(error.errors)
    except Refused as error:
        form.problem = done + str(error)
        return _not_tested(form, status=htmx.TOO_MANY)
    else:
        if htmx.wants_stream():
            return htmx.stream(_stream(trial))
        result = _last(trial)
        if htmx.is_htmx():
            return _result(trial, result.stages, result)
        return page(form, trial=trial, result=result)
    form.problem = done + form.problem
    return _not_tested(form)


def _not_tested(
    form: MailSettingsForm, *, presented: Exhibit | None = None, status: int = htmx.INVALID
) -> tuple[str, int]:
    if htmx.is_htmx():
        return render_template("mail_settings/_test_invalid.html", form=form, presented=presented), status
    return page(form, presented=presented), status


def _presented_again(form: MailSettingsForm) -> Exhibit | None:
    """What the server on the screen was last seen to present, for the person to compare once more."""
    draft = form.draft()
    try:
        server_name = valid_server_name(draft.server_name)
    except Invalid:
        return None
    with database().reading() as session:
        last = seen.last_seen(session, server_name, draft.port)
        if last is None:
            return None
        found = seen.offer(last.certificates, server_name, session.now())
    return Exhibit(Server(server_name, draft.port, draft.security), found)


def _presented(trial: Trial, result: Result | None) -> Exhibit | None:
    """The certificate that a failed test met, if the failure was about it."""
    if result is None or result.certificate is None or result.certificate.trusted or result.diagnosis is None:
        return None
    server, now = trial.target.server, database().clock()
    return Exhibit(server, seen.offer(result.certificate.chain, server.name, now), result.diagnosis)


def _trial(form: MailSettingsForm) -> Trial:
    form.validate()
    errors: dict[str, list[str]] = {name: list(found) for name, found in form.errors.items() if name}
    if errors:
        raise InvalidFields(errors)
    recipient = form.test_recipient.data or ""
    return prepare_trial(database(), trust(), current_actor(), form.draft(), recipient=recipient)


def _last(trial: Trial) -> Result:
    *_rest, result = trial.run()
    if not isinstance(result, Result):
        raise AssertionError("a trial ends with its result")
    return result


def _stream(trial: Trial) -> Iterator[str]:
    """The result's fragment, anew each time a stage ends."""
    stages: list[Stage] = []
    yield _result(trial, stages, None)
    for happened in trial.run():
        if isinstance(happened, Stage):
            stages.append(happened)
            yield _result(trial, stages, None)
        else:
            yield _result(trial, happened.stages, happened)


def _result(trial: Trial, stages: object, result: Result | None) -> str:
    presented = _presented(trial, result)
    return render_template(
        "mail_settings/_test_result.html", trial=trial, stages=stages, result=result, presented=presented
    )


def redrawn(given: ConfirmationForm, confirmed: MailCheck | None) -> str:
    """The form with what was typed, and how the confirmation of a test mail went."""
    return page(MailSettingsForm(), given=given, confirmed=confirmed)


def page(
    form: MailSettingsForm,
    *,
    conflict: VersionConflict | None = None,
    trial: Trial | None = None,
    result: Result | None = None,
    presented: Exhibit | None = None,
    given: ConfirmationForm | None = None,
    confirmed: MailCheck | None = None,
    **find: object,
) -> str:
    if trial is not None:
        presented = _presented(trial, result)
    with database().reading() as session:
        saved = settings.current(session)
        return render_template(
            "mail_settings/form.html",
            form=form,
            conflict=conflict,
            trial=trial,
            result=result,
            stages=result.stages if result else (),
            presented=presented,
            confirmation=given,
            confirmed=confirmed,
            **find,
            waiting=confirmation.waiting(session),
            verification=checks.verification(session, saved) if saved else None,
            login_check=checks.last_login_check(session) if saved else None,
            newly_trusted=settings.newly_trusted(session, saved) if saved else [],
            **_auth_context(session, form),
        )


def _auth_context(session: Session, form: MailSettingsForm) -> dict[str, object]:
    """The accounts to choose from, exactly as this person's Resources tab shows them, and the binding in words."""
    saved = settings.current(session)
    binding = settings.binding_for(session, current_actor(), saved) if saved else None
    choices = accounts.choices(session, current_actor(), q=form.q.data or "")
    chosen = form.account_id.data
    if chosen is not None and chosen not in {choice.id for choice in choices}:
        choices = [*accounts.choice(session, current_actor(), chosen), *choices]
    return {"saved": saved, "binding": binding, "choices": choices}
