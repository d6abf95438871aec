"""Who may call a view: deny by default, each view says whom it lets in, checked before it runs."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from flask import Flask, abort, g, request, session, url_for
from werkzeug.wrappers import Response

from webapp import htmx
from webapp.actor import Actor, Role
from webapp.identity import sessions

if TYPE_CHECKING:
    from webapp.identity.users import User
    from webapp.installation import Installation

View = TypeVar("View", bound=Callable[..., object])
_ATTRIBUTE = "keypost_access"


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


def allow(access: Access) -> Callable[[View], View]:
    """Say whom a view lets in. A view that says nothing stops the start."""

    def declare(view: View) -> View:
        setattr(view, _ATTRIBUTE, access)
        return view

    return declare


def guard(app: Flask, installation: Installation) -> None:
    """Check every request, and at once that every route has declared whom it lets in."""
    allow(Access.PUBLIC)(app.view_functions["static"])
    undeclared = [name for name, view in app.view_functions.items() if not hasattr(view, _ATTRIBUTE)]
    if undeclared:
        raise RuntimeError(f"these views do not say whom they let in: {', '.join(undeclared)}")

    def check() -> Response | None:
        _recognise(installation)
        if request.endpoint is None:
            return None
        access: Access = getattr(app.view_functions[request.endpoint], _ATTRIBUTE)
        if access.lets_in(current_actor_or_none()):
            return None
        if current_actor_or_none() is None:
            return htmx.go(url_for("session.sign_in", next=_here()))
        abort(403)

    app.before_request(check)


def _recognise(installation: Installation) -> None:
    token = session.get("token")
    user = sessions.resume(installation.database, token) if isinstance(token, str) else None
    g.user = user
    g.actor = user.actor(source()) if user is not None else None


def current_user() -> User:
    """The signed-in user of this request."""
    return cast("User", g.user)


def current_actor() -> Actor:
    """The signed-in user of this request, as the domain wants to know them."""
    return cast(Actor, g.actor)


def current_actor_or_none() -> Actor | None:
    return cast("Actor | None", g.get("actor"))


def source() -> str:
    """The address this request came from."""
    return request.remote_addr or "unknown"


def remember(token: str) -> None:
    """Put a fresh session's token into the cookie; nothing of what the cookie held before survives."""
    session.clear()
    session["token"] = token


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
