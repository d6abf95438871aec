"""Keypost: a small password vault whose mail settings sign in with an account kept in the vault."""

from __future__ import annotations

import secrets
from typing import Any

from flask import Flask, Response, g, request
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect

from webapp import access, htmx, refusals
from webapp.blueprints import (
    IdConverter,
    accounts,
    admin,
    audit,
    certificates,
    health,
    mail_confirmation,
    mail_discovery,
    mail_settings,
    profile,
    resources,
    session,
    setup,
    users,
    welcome,
)
from webapp.forms.mail import remedy_in_words
from webapp.installation import Installation
from webapp.mail.discovery import fields_of
from webapp.mail.presets import presets
from webapp.trust.store import TrustStore

MAX_BODY_BYTES = 1024 * 1024
POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types htmx"
)


_NOUNS = (
    setup,
    session,
    profile,
    resources,
    accounts,
    admin,
    mail_settings,
    mail_discovery,
    mail_confirmation,
    certificates,
    users,
    welcome,
    audit,
    health,
)


class CookieSessions(SecureCookieSessionInterface):
    """Flask's signed cookie, bound to this host alone (__Host-) and Secure whenever the request came by https."""

    def get_cookie_name(self, app: Flask) -> str:
        return "__Host-keypost" if request.is_secure else "keypost"

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def create_app(installation: Installation) -> Flask:
    """Put the parts together."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=installation.keyring.derive("cookie").hex(),
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        MAX_FORM_MEMORY_SIZE=MAX_BODY_BYTES,
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=False,
    )
    app.session_interface = CookieSessions()
    app.extensions["installation"] = installation
    app.extensions["trust"] = TrustStore(installation.database)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.filters["remedy"] = remedy_in_words
    app.jinja_env.filters["fill"] = fields_of
    app.jinja_env.globals["presets"] = presets
    app.before_request(refusals.refuse_malformed)
    CSRFProtect(app)
    app.url_map.converters["id"] = IdConverter
    for noun in _NOUNS:
        app.register_blueprint(noun.bp)
    refusals.register(app)
    access.guard(app, installation)
    app.context_processor(_context)
    app.after_request(_harden)
    return app


def nonce() -> str:
    """This answer's nonce: scripts and htmx attributes without it do nothing (hx-csp)."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(16)
    return str(g.nonce)


def _context() -> dict[str, Any]:
    return {
        "layout": htmx.layout(),
        "nonce": nonce,
        "actor": access.current_actor_or_none(),
    }


def _harden(response: Response) -> Response:
    headers = response.headers
    headers["Content-Security-Policy"] = POLICY.format(nonce=nonce())
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if request.is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if request.endpoint == "static":
        headers["Cache-Control"] = "public, max-age=3600"
    else:
        headers["Cache-Control"] = "no-store"
        response.vary.add("HX-Request")
        response.vary.add("Cookie")
    return response
