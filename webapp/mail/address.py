"""What a person may type as an address, a server name, a port or a one-line text, checked before it goes anywhere.

Strict where a mail server would be deceived (RFC 5321 and RFC 5322), lenient where intranets need it: names without a
dot, ``.local`` and ``.test`` are fine.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Final

import idna

from webapp.errors import Invalid
from webapp.i18n import gettext as _

_ATOM: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+)*"
)
_PLAIN: Final = re.compile(
    r"[A-Za-z0-9_+][A-Za-z0-9_+-]*(?:\.[A-Za-z0-9_+-]+)*"
    r"@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)*[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
)
_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_HEADER_OCTETS: Final = 998


def valid_address(text: str, *, ascii_domain: bool = False, field: str | None = None) -> str:
    """One mail address, its domain in lower case; as A-labels (RFC 5890) if ``ascii_domain``. Raises Invalid."""
    if len(text) <= 64 and _PLAIN.fullmatch(text):
        return text  # What nearly all are, told in a microsecond; what follows would say the same.
    text = unicodedata.normalize("NFC", text.strip())
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain:
        raise Invalid(_("A mail address looks like name@example.com: something, one @, and a domain."), field)
    if not _ATOM.fullmatch(local) or not _is_one_visible_line(text):
        raise Invalid(
            _(
                "“%(shown)s” is not one mail address. Enter a single address such as name@example.com.",
                shown=_shown(text),
            ),
            field,
        )
    if local.startswith("-"):
        raise Invalid(
            _("The part before the @ may not begin with a hyphen: some mail programs take that for an option."), field
        )
    encoded = _host(domain, field, _("The part after the @"))
    if len(local.encode()) > 64 or len(local.encode()) + 1 + len(encoded) > 254:
        raise Invalid(_("This mail address is too long: at most 64 characters before the @, and 254 in all."), field)
    return f"{local}@{encoded if ascii_domain else _readable(encoded)}"


def needs_smtputf8(address: str) -> bool:
    """Whether only a server with SMTPUTF8 (RFC 6531) can take this address: its local part is not ASCII."""
    return not address.rpartition("@")[0].isascii()


def valid_header_text(text: str, *, field: str | None = None) -> str:
    """One visible line for a header: no control or direction characters, no encoded words, at most 998 octets.

    Raises Invalid.
    """
    text = unicodedata.normalize("NFC", text.strip())
    if not _is_one_visible_line(text):
        raise Invalid(_("Use one line of ordinary text, without line breaks or invisible characters."), field)
    if "=?" in text:
        raise Invalid(_("Leave out “=?”: in a mail header it begins a code that mail programs would unfold."), field)
    if len(text.encode()) > _HEADER_OCTETS:
        raise Invalid(
            _("This is too long: a mail header has room for %(header_octets)s bytes.", header_octets=_HEADER_OCTETS),
            field,
        )
    return text


def valid_server_name(text: str, *, field: str | None = "server_name") -> str:
    """A host name (as A-labels) or an IP address, in lower case. Raises Invalid with the remedy."""
    text = unicodedata.normalize("NFC", text.strip())
    if not text:
        raise Invalid(_("Enter the name of the mail server, for example mail.example.com."), field)
    scheme, separator, rest = text.partition("://")
    if separator:
        raise Invalid(
            _(
                "Leave out “%(shown)s://” and enter only the name: %(shown2)s. Choose the encryption "
                "under Secure connection.",
                shown=_shown(scheme),
                shown2=_shown(rest.split("/")[0]),
            ),
            field,
        )
    if any(character.isspace() for character in text):
        raise Invalid(_("A server name has no spaces. Enter one name, for example mail.example.com."), field)
    address = _ip(text)
    if address:
        return address
    name, colon, port = text.partition(":")
    if colon and _PORT.fullmatch(port):
        raise Invalid(
            _(
                "Enter only the name here, %(shown)s, and the port %(port)s in its own field.",
                shown=_shown(name),
                port=port,
            ),
            field,
        )
    if "@" in text:
        raise Invalid(
            _("This is a mail address. Enter the name of the mail server, for example mail.example.com."), field
        )
    if "/" in text:
        raise Invalid(_("A server name has no slash. Enter only the name, for example mail.example.com."), field)
    return _host(text.removesuffix("."), field, _("The server name"))


def valid_hello_name(text: str, *, field: str | None = "hello_name") -> str:
    """Our own name for EHLO (RFC 5321, 4.1.4), as A-labels in lower case; blank for the system's. Raises Invalid."""
    text = unicodedata.normalize("NFC", text.strip())
    if not text:
        return ""
    if _ip(text) or any(character.isspace() or character in ":/@[]" for character in text):
        raise Invalid(
            _(
                "Enter the full host name of the machine that runs Keypost, for example "
                "keypost.example.com, without an address or a port; or leave it empty."
            ),
            field,
        )
    return _host(text.removesuffix("."), field, _("The name of this machine"))


def valid_port(text: str | int, *, field: str | None = "port") -> int:
    """A TCP port. Raises Invalid."""
    digits = str(text).strip()
    if not _PORT.fullmatch(digits) or not 1 <= int(digits) <= 65535:
        raise Invalid(_("A port is a whole number from 1 to 65535; mail servers use 587, 465 or 25."), field)
    return int(digits)


def permitted_port(text: str | int, allowed: frozenset[int] | None, *, field: str | None = "port") -> int:
    """A TCP port to which mail may go here; ``allowed`` is None when it may go to every one. Raises Invalid."""
    port = valid_port(text, field=field)
    if allowed is not None and port not in allowed:
        raise Invalid(
            _(
                "Mail may not use port %(port)s here, only %(list)s: whoever runs this machine has "
                "limited the ports with KEYPOST_MAIL_PORTS.",
                port=port,
                list=", ".join(map(str, sorted(allowed))),
            ),
            field,
        )
    return port


def _host(text: str, field: str | None, subject: str) -> str:
    text = text.lower()
    try:
        encoded = text if text.isascii() else idna.encode(text, uts46=True).decode()
    except idna.IDNAError:
        raise Invalid(
            _(
                "%(subject)s, “%(shown)s”, is not a name that can exist on the internet. Check it letter by letter.",
                subject=subject,
                shown=_shown(text),
            ),
            field,
        ) from None
    labels = encoded.split(".")
    if len(encoded) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Invalid(
            _(
                "%(subject)s, “%(shown)s”, is not a valid name: it is made of letters, digits and "
                "hyphens, with single dots between.",
                subject=subject,
                shown=_shown(text),
            ),
            field,
        )
    if labels[-1].isdigit() or any(_is_broken_label(label) for label in labels):
        raise Invalid(
            _(
                "%(subject)s, “%(shown)s”, is not a valid name. Check it letter by letter.",
                subject=subject,
                shown=_shown(text),
            ),
            field,
        )
    return encoded


def _is_broken_label(label: str) -> bool:
    if not label.startswith("xn--"):
        return False
    try:
        idna.decode(label)
    except idna.IDNAError:
        return True
    return False


def _readable(encoded: str) -> str:
    try:
        return idna.decode(encoded) if "xn--" in encoded else encoded
    except idna.IDNAError:
        return encoded


def _ip(text: str) -> str | None:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def _is_one_visible_line(text: str) -> bool:
    return all(character == " " or (character.isprintable() and not _is_invisible(character)) for character in text)


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _shown(text: str) -> str:
    shown = "".join(character if character.isprintable() else "�" for character in text)
    return shown if len(shown) <= 80 else shown[:79] + "…"
