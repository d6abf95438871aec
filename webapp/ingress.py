"""What a request must be before any view sees it: from where it says it came, under which name, from which page."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, Final
from urllib.parse import urlsplit

from flask import Flask, request
from flask import Request as FlaskRequest
from flask.globals import request_ctx

from webapp.config import Config, Network
from webapp.db import Database
from webapp.errors import Problem
from webapp.i18n import gettext as _
from webapp.mail.settings import access_host, is_this_machine

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from webapp.installation import Installation

_log = logging.getLogger(__name__)

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
UNDER_ANY_NAME: Final = frozenset({"static", "identity.prove", "health.ready", "health.live"})
"""Endpoints that answer under every name: they tell nobody anything that depends on who asks."""
FORWARDED: Final = "keypost.forwarded"
"""In a request's environment: whether any proxy, trusted or not, said that it passed the request on."""
_FORWARDED: Final = tuple(f"HTTP_X_FORWARDED_{name}" for name in ("FOR", "PROTO", "HOST", "PORT", "PREFIX", "BY"))


class UnknownHost(Problem):
    """The request is for a name that is not this installation's."""


class OtherSite(Problem):
    """The request was made by a page of another site."""


class Malformed(Problem):
    """The request lacks what every request has."""


def guard(app: Flask, installation: Installation) -> None:
    """Read what trusted proxies say; refuse requests under foreign names and from foreign pages."""
    config, database = installation.config, installation.database

    def check() -> None:
        if request_ctx.url_adapter is None:  # Werkzeug can build no address under such a name, and every page has some.
            request_ctx.url_adapter = app.url_map.bind("localhost")
            raise _no_name()
        if request.endpoint not in UNDER_ANY_NAME:
            refuse_unknown_host(config, database)
        refuse_other_sites(config, database)

    app.before_request(check)
    app.wsgi_app = Proxies(app.wsgi_app, config.trusted_proxies, config.proxy_hops)  # type: ignore[method-assign]


class Request(FlaskRequest):
    """A request that keeps an uploaded file in memory: it may hold passwords, and no disk may see them in clear.

    How long it may be, MAX_BODY_BYTES says.
    """

    def _get_file_stream(self, *_lengths: object, **_names: object) -> BinaryIO:
        return BytesIO()


class Proxies:
    """Believes X-Forwarded-For and X-Forwarded-Proto from the listed proxies, and forgets them from anybody else.

    hops: through how many proxies every request comes. Each adds the address that it sees to the end of
    X-Forwarded-For, so the visitor's is exactly that many from the end: what stands before it, a visitor made up.
    """

    def __init__(self, application: WSGIApplication, networks: Sequence[Network], hops: int) -> None:
        self._application = application
        self._networks = networks
        self._hops = hops
        self._said_so = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        said = {name: str(environ.pop(name, "")) for name in _FORWARDED}
        environ[FORWARDED] = any(said.values())
        peer = _address(str(environ.get("REMOTE_ADDR", "")))
        if peer is not None:
            environ["REMOTE_ADDR"] = str(peer)
            visitor = self._visitor(peer, said["HTTP_X_FORWARDED_FOR"])
            if visitor is not None:
                environ["REMOTE_ADDR"] = str(visitor)
                environ["wsgi.url_scheme"] = self._scheme(said["HTTP_X_FORWARDED_PROTO"])
            elif said["HTTP_X_FORWARDED_PROTO"]:
                self._say_that_nobody_believes(peer)
        return self._application(environ, start_response)

    def _say_that_nobody_believes(self, peer: Ip) -> None:
        """Tell whoever forgot to name a proxy, once: a visitor can send such headers too."""
        if not self._said_so:
            self._said_so = True
            _log.warning(
                "%s sends X-Forwarded-Proto and is not believed. If it is your proxy, name it in "
                "KEYPOST_TRUSTED_PROXIES, and set KEYPOST_PROXY_HOPS if there are several.",
                peer,
            )

    def _visitor(self, peer: Ip, forwarded_for: str) -> Ip | None:
        """The address before the first of our proxies, or None when the request did not come through all of them."""
        chain = [*(_address(each) for each in forwarded_for.split(",")), peer]
        if len(chain) <= self._hops:
            return None
        return chain[-self._hops - 1] if all(map(self._is_proxy, chain[-self._hops :])) else None

    def _is_proxy(self, address: Ip | None) -> bool:
        return address is not None and any(address in network for network in self._networks)

    def _scheme(self, forwarded_proto: str) -> str:
        """What the outermost of our proxies says; a list has one entry for each, unless they pass one on."""
        schemes = [each.strip().lower() for each in forwarded_proto.split(",")]
        outermost = schemes[-self._hops] if len(schemes) >= self._hops else schemes[0]
        return "https" if outermost == "https" else "http"


def _address(text: str) -> Ip | None:
    """An address as proxies write it: perhaps with a port or in brackets, IPv4 perhaps within IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def refuse_unknown_host(config: Config, database: Database) -> None:
    """Answer under our own names alone, so that no page of another (DNS rebinding) reaches us.

    Until the Access URL is saved nobody has said what our name is, and any will do. Raises Malformed or UnknownHost.
    """
    name = _host_name(request.host)
    if name is None:
        raise _no_name()
    if _is_ours(name, config):
        return
    with database.reading() as session:
        ours = access_host(session)
    if ours is not None and name != ours:
        raise UnknownHost(
            _(
                "Keypost does not answer under the name “%(name)s”. Open it under the address that you "
                "were given. If the name is right, an administrator makes it the Access URL in the Mail "
                "Server Settings, or names it in KEYPOST_ALLOWED_HOSTS where Keypost is started.",
                name=name[:100],
            )
        )


def _no_name() -> Malformed:
    return Malformed(_("The request does not say whom it is for: its Host header is no name. Reload the page."))


def refuse_other_sites(config: Config, database: Database) -> None:
    """Let pages of our own alone change anything, whatever they carry. Raises OtherSite.

    Browsers say where a request comes from, in Sec-Fetch-Site or, over plain http, in Origin; a program says neither,
    and has no session to abuse. The forms' own token is checked besides.
    """
    if request.method in SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and not _is_our_origin(origin, config, database)
    if foreign:
        raise OtherSite(
            _(
                "This was sent by a page of another site, and nothing was changed. If you did send it "
                "from Keypost, open Keypost under its own address; a proxy in front has to pass on the "
                "Host header."
            )
        )


def is_from_our_page(config: Config, database: Database) -> bool:
    """Whether the browser itself says that a page of ours made the request; a program never says so."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        return site == "same-origin"
    return origin is not None and _is_our_origin(origin, config, database)


def _is_our_origin(origin: str, config: Config, database: Database) -> bool:
    scheme, _rest, host = origin.partition("://")
    name = _host_name(host)
    if scheme not in ("http", "https") or name is None:
        return False
    if host.lower() == request.host.lower() or name in config.allowed_hosts:
        return True
    with database.reading() as session:
        return name == access_host(session)


def _host_name(host: str) -> str | None:
    """A Host header without its port, in lower case; None when it is no such thing."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        return None
    name = (parts.hostname or "").rstrip(".")
    return name if name and parts.netloc == host else None


def _is_ours(name: str, config: Config) -> bool:
    """Whether a name is this machine's, the one we listen on, or listed.

    Who listens on every address does not know them all; an address, unlike a name, cannot be led here by a stranger.
    """
    if is_this_machine(name) or name == config.host.lower() or name in config.allowed_hosts:
        return True
    return config.host in ("0.0.0.0", "::") and _address(f"[{name}]") is not None  # noqa: S104 - compared, not bound
