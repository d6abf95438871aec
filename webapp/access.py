"""Who may call a view: deny by default, each view says whom it lets in, checked before it runs."""

from __future__ import annotations

import enum
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from flask import Flask, abort, current_app, g, make_response, render_template, request, session, url_for
from flask import Response as FlaskResponse
from itsdangerous import BadData, URLSafeTimedSerializer
from werkzeug.wrappers import Response

from webapp import challenge, htmx, ingress, once, reading
from webapp.actor import Actor, Role
from webapp.challenge import Purpose
from webapp.errors import Invalid, Unavailable
from webapp.i18n import gettext as _
from webapp.identity import sessions
from webapp.identity.throttle import KnownBrowser
from webapp.keyring import Secret

if TYPE_CHECKING:
    from webapp.identity.sessions import Resumed
    from webapp.identity.users import User
    from webapp.installation import Installation

View = TypeVar("View", bound=Callable[..., object])
_ATTRIBUTE = "keypost_access"
_BROWSER_KNOWN_FOR = 180 * 24 * 60 * 60  # seconds
_USERS_PER_BROWSER = 20
_STEP_UP = "keypost_step_up"
_PROOF = ("proof_password", "proof_code", "proof_passkey")
_LONGEST_PROOF = (2000, 2000, 20_000)
_FORM_TOKEN = "csrf_token"  # noqa: S105 - the name of a field
_MADE_BY = "made_by"
# What a page of a session may not carry on to the next: what was typed in secret, what may be a private key instead of
# a certificate, and tokens of their own page.
_NOT_CARRIED = ("password", "current", "secret", "code", "token", "proof_", "pem", _MADE_BY)
# Where somebody may go whose role needs a second factor that is not set up yet.
_BEFORE_SECOND_FACTOR = frozenset({"second_factor", "passkeys", "session", "confirmation"})


class Access(enum.Enum):
    """Whom a view lets in."""

    PUBLIC = "everybody"
    SIGNED_IN = "every signed-in user"
    ADDS_RESOURCES = "administrators and password administrators"
    AUDITOR = "administrators and password auditors"
    ADMINISTRATOR = "administrators"

    def lets_in(self, actor: Actor | None) -> bool:
        if self is Access.PUBLIC:
            return True
        if actor is None:
            return False
        return actor.role in _ROLES[self]


_ROLES = {
    Access.SIGNED_IN: frozenset(Role),
    Access.ADDS_RESOURCES: frozenset({Role.ADMINISTRATOR, Role.PASSWORD_ADMINISTRATOR}),
    Access.AUDITOR: frozenset({Role.ADMINISTRATOR, Role.PASSWORD_AUDITOR}),
    Access.ADMINISTRATOR: frozenset({Role.ADMINISTRATOR}),
}


def allow(access: Access, *, step_up: bool = False) -> Callable[[View], View]:
    """Say whom a view lets in. A view that says nothing stops the start.

    step_up: only who proved within five minutes who they are; anybody else is asked first, and then goes on to this
    view. The form that leads here may carry no secret. A view whose form does calls require_proof() itself.
    """

    def declare(view: View) -> View:
        setattr(view, _ATTRIBUTE, access)
        setattr(view, _STEP_UP, step_up)
        return view

    return declare


def guard(app: Flask, installation: Installation) -> None:
    """Check every request, and at once that every route has declared whom it lets in."""
    allow(Access.PUBLIC)(app.view_functions["static"])
    undeclared = [name for name, view in app.view_functions.items() if not hasattr(view, _ATTRIBUTE)]
    if undeclared:
        raise RuntimeError(f"these views do not say whom they let in: {', '.join(undeclared)}")

    def check() -> Response | None:
        if request.endpoint == "static":  # The same for everybody, also while the database is away.
            return None
        recognise(installation)
        if request.endpoint is None:
            return None
        view = app.view_functions[request.endpoint]
        access: Access = getattr(view, _ATTRIBUTE)
        if not access.lets_in(current_actor_or_none()):
            return _again_as_before() or _lead_in(installation)
        if access is not Access.PUBLIC and lacks_second_factor() and request.blueprint not in _BEFORE_SECOND_FACTOR:
            return htmx.go(url_for("second_factor.show"))
        again = once.begin()
        if again is None and getattr(view, _STEP_UP):
            _ask_before()
        return again

    app.before_request(check)
    app.after_request(_know_browser)
    app.context_processor(lambda: {"confined": lacks_second_factor(), "single_keys": has_single_keys()})
    # Macros see what is global, not what a context processor gives.
    app.jinja_env.globals.update(is_proved=is_proved, has_second_factor=has_second_factor, has_passkey=has_passkey)


def recognise(installation: Installation) -> None:
    """Find out who asks, by the token of their session."""
    token = session.get("token")
    g.resumed = sessions.resume(installation.database, token) if isinstance(token, str) else None
    g.actor = g.resumed.user.actor(source()) if g.resumed is not None else None
    if g.resumed is not None:
        reading.meet(installation.database, g.resumed.user, g.resumed.sign_in_id)


def _again_as_before() -> Response | None:
    """What a first click was answered, when it gave the session another token and this is the second one."""
    return once.answered_before() if current_actor_or_none() is None else None


def _lead_in(installation: Installation) -> Response:
    """Where somebody goes who may not go here: to sign in, to the second step of it, or nowhere."""
    if current_actor_or_none() is not None:
        abort(403)
    if htmx.is_htmx():
        return htmx.session_ended()
    if can_send_again(installation):
        return send_again_page(401)
    with installation.database.reading() as reading:
        half = sessions.awaiting(reading, session.get("token", ""))
    return htmx.go(url_for("session.second_step" if half else "session.sign_in", next=_here()))


def lacks_second_factor() -> bool:
    """Whether the signed-in user has to set up a second factor before anything else."""
    resumed: Resumed | None = g.get("resumed")
    return resumed is not None and resumed.lacks_second_factor


def has_second_factor() -> bool:
    """Whether the signed-in user has set up a second factor."""
    resumed: Resumed | None = g.get("resumed")
    return resumed is not None and resumed.has_second_factor


def has_single_keys() -> bool:
    """Whether a key alone does something on the signed-in user's pages."""
    resumed: Resumed | None = g.get("resumed")
    return resumed is not None and resumed.user.single_keys


def has_passkey() -> bool:
    """Whether the signed-in user has a passkey."""
    resumed: Resumed | None = g.get("resumed")
    return resumed is not None and resumed.has_passkey


def is_proved() -> bool:
    """Whether the person proved within five minutes who they are: by signing in, or when asked again."""
    resumed: Resumed | None = g.get("resumed")
    return resumed is not None and (resumed.proved or bool(g.get("proved")))


def require_proof(*, afresh: bool = False) -> None:
    """Go on only with somebody who proved within five minutes who they are, or does so in this very request.

    afresh: only with who does so in this very request. Raises Invalid, for the view to show in its form, where the
    macro proof() draws the fields. Under htmx the answer is a dialog above the page instead, so that nothing typed is
    lost; app.js then presses the same button again.
    """
    if is_proved() and not afresh:
        return
    if any(request.form.get(name) for name in _PROOF):
        take_proof()
        return
    if htmx.is_htmx() and not afresh:
        abort(htmx.ask_for_proof())
    raise Invalid(_("Confirm that it is you, with your password or a code, and send this again."), "proof_password")


def take_proof() -> None:
    """Judge the password, code or passkey in the form; the session gets a new token. Raises Invalid, Unavailable."""
    database = cast("Installation", current_app.extensions["installation"]).database
    password, code, passkey = (
        request.form.get(name, "")[:most] for name, most in zip(_PROOF, _LONGEST_PROOF, strict=True)
    )
    if passkey:
        with database.reading() as reading:
            party = challenge.party(reading)
        asked = challenge.take(Purpose.PROOF)
        session["token"] = sessions.prove_by_passkey(
            database, current_actor(), party, session["token"], challenge=asked, answer=passkey
        )
    else:
        session["token"] = sessions.prove(
            database, current_actor(), session["token"], password=Secret(password), code=code.strip()
        )
    g.proved = True


def _ask_before() -> None:
    try:
        require_proof()
    except (Invalid, Unavailable) as error:
        problem = str(error) if any(request.form.get(name) for name in _PROOF) else ""
        abort(make_response(_confirmation_page(problem), htmx.INVALID))


def _confirmation_page(problem: str) -> str:
    """Ask who it is, and carry on what the form before held, except for what must not be in a page."""
    if request.method != "POST":
        return render_template("confirmation/form.html", action=None, carried=[], next=_here(), problem=problem)
    return render_template(
        "confirmation/form.html", action=request.path, carried=_carried(), next=None, problem=problem
    )


def _carried() -> list[tuple[str, str]]:
    """What the form before held, except for what must not be in a page."""
    return [
        (name, value)
        for name, value in request.form.items(multi=True)
        if not any(secret in name for secret in _NOT_CARRIED)
    ]


def can_send_again(installation: Installation) -> bool:
    """Whether this form was sent by a page of ours that was opened in another session, so that it may be sent again."""
    view = current_app.view_functions.get(request.endpoint or "")
    if request.method != "POST" or view is None or getattr(view, _ATTRIBUTE) is Access.PUBLIC:
        return False
    return ingress.is_from_our_page(installation.config, installation.database)


def is_of_somebody_else() -> bool:
    """Whether this form was opened by somebody else than who is signed in now, or nobody knows by whom."""
    actor = current_actor_or_none()
    return actor is not None and actor.id != _maker()


def _maker() -> int | None:
    """Who was signed in when this form was opened: its page says so, or its token."""
    if _MADE_BY in request.form:
        return request.form.get(_MADE_BY, type=int)
    try:
        content = str(_form_signer().loads(request.form.get(_FORM_TOKEN, "")))
    except BadData:
        return None
    user_id, names_user, _random = content.partition(".")
    return int(user_id) if names_user else None


def _form_signer() -> URLSafeTimedSerializer:
    """What Flask-WTF signs a form's token with."""
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="wtf-csrf-token")


def send_again_page(status: int) -> FlaskResponse:
    """Keep what was typed in a page that sends it again, after somebody has signed in and looked at it once more."""
    secret = any(request.form.get(name) for name in request.form if "password" in name or "secret" in name)
    return make_response(
        render_template(
            "session/ended.html",
            carried=_carried(),
            made_by=_maker(),
            action=request.full_path.rstrip("?"),
            lacks_secret=secret,
            lacks_file=bool(request.form.get("pem")) or any(file.filename for file in request.files.values()),
        ),
        status,
    )


def current_user() -> User:
    """The signed-in user of this request."""
    return cast("Resumed", g.resumed).user


def current_sign_in() -> int:
    """The number of this request's session."""
    return cast("Resumed", g.resumed).sign_in_id


def current_actor() -> Actor:
    """The signed-in user of this request, as the domain wants to know them."""
    return cast(Actor, g.actor)


def current_actor_or_none() -> Actor | None:
    return cast("Actor | None", g.get("actor"))


def source() -> str:
    """The address this request came from."""
    return request.remote_addr or "unknown"


def known_browser() -> KnownBrowser | None:
    """As whom this browser has signed in before, as its own signed cookie says."""
    try:
        content = _browser_signer().loads(request.cookies.get(_browser_cookie(), ""), max_age=_BROWSER_KNOWN_FOR)
        return KnownBrowser(str(content["id"]), frozenset(map(int, content["users"])))
    except (BadData, KeyError, TypeError, ValueError):
        return None


def _know_browser(response: FlaskResponse) -> FlaskResponse:
    """Note in the browser that this user has signed in with it, so that guesses made elsewhere never make it wait."""
    resumed: Resumed | None = g.get("resumed")
    known = known_browser() if resumed is not None else None
    if resumed is None or request.endpoint == "static" or (known is not None and resumed.user.id in known.user_ids):
        return response
    users = [resumed.user.id, *(known.user_ids if known is not None else ())][:_USERS_PER_BROWSER]
    content = {"id": known.id if known is not None else secrets.token_urlsafe(16), "users": users}
    response.set_cookie(
        _browser_cookie(),
        _browser_signer().dumps(content),
        max_age=_BROWSER_KNOWN_FOR,
        secure=request.is_secure,
        httponly=True,
        samesite="Lax",
    )
    return response


def _browser_cookie() -> str:
    return "__Host-keypost-browser" if request.is_secure else "keypost-browser"


def _browser_signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="known browser")


def remember(token: str, user_id: int) -> None:
    """Put a fresh session's token into the cookie; nothing of what the cookie held before survives.

    The forms' own token names its user, so that a form tells whose it is also when the session has ended.
    """
    session.clear()
    session["token"] = token
    session[_FORM_TOKEN] = f"{user_id}.{secrets.token_hex(20)}"


def forget() -> None:
    session.clear()


def _here() -> str | None:
    """The page to come back to after signing in: a path of ours that was asked for with GET, else none."""
    if request.method != "GET" or htmx.is_htmx():
        return None
    return request.full_path.rstrip("?") if request.query_string else request.path


def safe_next(target: str | None) -> str | None:
    """``target`` when it is a plain path of this site, else None (no host, no scheme, no backslash, no control)."""
    if not target or not target.startswith("/") or target.startswith("//") or len(target) > 500:
        return None
    return target if target.isprintable() and "\\" not in target else None
