"""A token to sign in with, from the provider's token endpoint by client credentials (RFC 6749, 4.4).

One POST per sign-in: verified TLS (plain HTTP only to this machine itself), no redirect is followed, time and size are
bounded, and neither secret nor token is kept. Token endpoints are trusted by the public authorities alone.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.keyring import Secret
from webapp.mail import dial, fetch
from webapp.mail.address import valid_server_name
from webapp.mail.dial import Resolver, system_resolver
from webapp.mail.fetch import SslContext
from webapp.mail.transcript import Masker
from webapp.mail.wire import Deadline

_SHOWN: Final = 200
_URL: Final = re.compile(r"[!-~]{1,2000}")
_TOKEN: Final = re.compile(r"[!-~]{1,8192}")


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """Where a token comes from, and for which application; its secret is the password of the Login."""

    token_url: str
    client_id: str
    scope: str = ""


class TokenFault(Exception):
    """No token. detail: why, with the endpoint's own words; masked by whoever shows it."""

    def __init__(self, detail: str) -> None:
        super().__init__("no token")
        self.detail = detail


class TokenRefused(TokenFault):
    """The endpoint answered, but not with a token."""


class TokenUnreachable(TokenFault):
    """The endpoint gave no answer that says anything about the request."""


def valid_token_url(text: str, *, field: str | None = "oauth_token_url") -> str:
    """The address of a token endpoint (RFC 6749, 3.2): https, or http on this machine. Raises Invalid."""
    text = text.strip()
    try:
        parts = urlsplit(text)
        host = valid_server_name(parts.hostname or "", field=field)
        sound = _URL.fullmatch(text) and "@" not in parts.netloc and "#" not in text and parts.port != 0
    except ValueError:
        sound, host = None, ""
    local = host == "localhost" or ((host[:1].isdigit() or ":" in host) and dial.is_loopback(host))
    if not sound or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise Invalid(
            _(
                "Enter the address of the token endpoint as the provider states it, beginning with "
                "https:// and without a user name or “#”: the client secret is sent there."
            ),
            field,
        )
    return text


def fetch_token(
    credentials: ClientCredentials,
    secret: Secret,
    ssl_context: SslContext,
    deadline: Deadline,
    *,
    masker: Masker,
    resolver: Resolver = system_resolver,
) -> Secret:
    """A bearer token. Raises TokenRefused or TokenUnreachable; both secrets are made known to ``masker`` first."""
    authorization = _authorization(credentials, secret, masker)
    try:
        url = valid_token_url(credentials.token_url)
    except Invalid as error:
        raise TokenUnreachable(str(error)) from None
    try:
        answer = fetch.send(
            url,
            *_request(credentials, authorization),
            ssl_context=ssl_context,
            deadline=deadline,
            resolver=resolver,
        )
    except fetch.Forbidden:
        raise TokenUnreachable("its name leads to an address that Keypost does not connect to") from None
    except ssl.SSLCertVerificationError as error:
        raise TokenUnreachable(f"its certificate is not trusted ({error.verify_message})") from None
    except TimeoutError:
        raise TokenUnreachable("no answer in time") from None
    except (OSError, UnicodeError, HTTPException) as error:
        why = getattr(error, "strerror", None) or "its answer is not sound HTTP"
        raise TokenUnreachable(str(why)) from None
    token = _read(answer.status, answer.body)
    masker.hide(token)
    return token


def _authorization(credentials: ClientCredentials, secret: Secret, masker: Masker) -> str:
    """HTTP Basic, the one way that every endpoint knows (RFC 6749, 2.3.1)."""
    encoded = quote_plus(secret.reveal())
    masker.hide(secret)
    masker.hide(encoded)
    basic = base64.b64encode(f"{quote_plus(credentials.client_id)}:{encoded}".encode())
    masker.hide_form(basic)
    return f"Basic {basic.decode()}"


def _request(credentials: ClientCredentials, authorization: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body that ask for a token (RFC 6749, 4.4.2)."""
    fields = {"grant_type": "client_credentials", **({"scope": credentials.scope} if credentials.scope else {})}
    headers = {
        "Authorization": authorization,
        "Accept": "application/json",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return headers, urlencode(fields).encode()


def _read(status: int, body: bytes) -> Secret:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    fields: dict[str, Any] = answer if isinstance(answer, dict) else {}
    if status == 200:
        token = fields.get("access_token")
        if isinstance(token, str) and _TOKEN.fullmatch(token) and str(fields.get("token_type", "")).lower() == "bearer":
            return Secret(token)
        raise TokenRefused("its answer holds no bearer token")
    words = [fields[name] for name in ("error", "error_description") if isinstance(fields.get(name), str)]
    said = f"HTTP status {status}" + (f", {': '.join(words)}" if words else "")
    if 300 <= status < 400:
        raise TokenRefused(f"{said}: it sends on to another address, where Keypost does not send the secret")
    raise TokenUnreachable(said) if status >= 500 or status in (408, 429) else TokenRefused(said)


def shown(detail: str, masker: Masker) -> str:
    """The detail of a TokenFault as a person may see it: masked first, then cut."""
    text = masker.prose(detail)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
