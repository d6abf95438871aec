"""Keypost: a small password vault whose mail settings sign in with an account kept in the vault."""

from __future__ import annotations

import secrets
from typing import Any

from flask import Flask, Response, g, request
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import CSRFProtect

from webapp import access, actor, htmx, i18n, ingress, once, reading, refusals, static_files
from webapp.audit import words
from webapp.blueprints import (
    IdConverter,
    accounts,
    admin,
    audit,
    certificates,
    confirmation,
    first_steps,
    forgotten,
    health,
    identity,
    imports,
    keyboard,
    language,
    mail_access_url,
    mail_confirmation,
    mail_discovery,
    mail_preferences,
    mail_settings,
    mail_texts,
    outbox,
    palette,
    passkeys,
    profile,
    resource_exports,
    resource_imports,
    resources,
    second_factor,
    session,
    setup,
    shares,
    sign_in_policy,
    users,
    welcome,
)
from webapp.forms.audit import details_in_words
from webapp.forms.mail import remedy_in_words
from webapp.installation import Installation
from webapp.mail import likeness
from webapp.mail.diagnosis import stage_in_words
from webapp.mail.discovery import fields_of
from webapp.mail.presets import presets
from webapp.mail.retrospect import meaning_of_pause
from webapp.mail.wording import STYLE_SOURCE
from webapp.moments import lasting, relative
from webapp.outbox.codes import name_of
from webapp.outbox.messages import kind_label, state_label
from webapp.server import MAX_BODY_BYTES
from webapp.trust.seen import origin
from webapp.trust.store import TrustStore
from webapp.vault.resources import kind_label as type_label

POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self' {mail_style}; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types htmx"
)


_NOUNS = (
    setup,
    session,
    confirmation,
    profile,
    language,
    keyboard,
    second_factor,
    passkeys,
    resources,
    resource_imports,
    resource_exports,
    accounts,
    shares,
    admin,
    first_steps,
    mail_settings,
    mail_discovery,
    mail_confirmation,
    mail_access_url,
    mail_texts,
    mail_preferences,
    certificates,
    users,
    sign_in_policy,
    imports,
    welcome,
    forgotten,
    outbox,
    audit,
    health,
    identity,
    palette,
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
    app.request_class = ingress.Request
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
    i18n.install(app.jinja_env)
    app.jinja_env.filters["remedy"] = remedy_in_words
    app.jinja_env.filters["likeness"] = likeness.of_host
    app.jinja_env.filters["fill"] = fields_of
    app.jinja_env.filters["relative"] = relative
    app.jinja_env.filters["lasting"] = lasting
    app.jinja_env.globals["presets"] = presets
    app.jinja_env.filters["meaning"] = meaning_of_pause
    app.jinja_env.filters["kind_label"] = kind_label
    app.jinja_env.filters["resource_type"] = type_label
    app.jinja_env.filters["origin"] = origin
    app.jinja_env.filters["state_label"] = state_label
    app.jinja_env.filters["act"] = words.action
    app.jinja_env.filters["how_it_ended"] = words.ended
    app.jinja_env.filters["code_name"] = name_of
    app.jinja_env.filters["stage_name"] = stage_in_words
    app.jinja_env.filters["details"] = details_in_words
    app.jinja_env.filters["role_label"] = actor.role_in_words
    app.jinja_env.filters["who"] = actor.name_in_words
    app.jinja_env.filters["from_where"] = actor.source_in_words
    app.jinja_env.filters["about"] = words.subject
    reading.guard(app)
    ingress.guard(app, installation)
    app.jinja_env.globals["first_steps"] = first_steps.first_steps
    app.jinja_env.globals["outbox_banner"] = outbox.banner
    app.before_request(refusals.refuse_malformed)
    CSRFProtect(app)
    app.url_map.converters["id"] = IdConverter
    for noun in _NOUNS:
        app.register_blueprint(noun.bp)
    refusals.register(app)
    access.guard(app, installation)
    once.guard(app, installation)
    app.context_processor(_context)
    app.after_request(_harden)
    static_files.compress(app)
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
    headers["Content-Security-Policy"] = POLICY.format(nonce=nonce(), mail_style=STYLE_SOURCE)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if request.is_secure:
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
    if request.endpoint == "static" and response.status_code in (200, 206, 304):  # Any other answer is a page.
        headers["Cache-Control"] = "public, max-age=3600"
    else:
        headers["Cache-Control"] = "no-store"
        response.vary.add("HX-Request")
        response.vary.add("Cookie")
    return response
