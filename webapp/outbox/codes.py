"""The codes that attempts end with, as words."""

from __future__ import annotations

from typing import Final

from webapp.i18n import N_
from webapp.i18n import gettext as _

_NAMES: Final = frozenset(
    {
        N_("name not found"),
        N_("name unresolvable"),
        N_("name invalid"),
        N_("port invalid"),
        N_("connection refused"),
        N_("connection timeout"),
        N_("network unreachable"),
        N_("connection dropped"),
        N_("greeting timeout"),
        N_("not smtp"),
        N_("greeting refused"),
        N_("protocol violation"),
        N_("implicit tls expected"),
        N_("starttls expected"),
        N_("starttls not offered"),
        N_("starttls refused"),
        N_("tls handshake failed"),
        N_("tls version"),
        N_("tls cipher"),
        N_("client certificate wanted"),
        N_("certificate self signed"),
        N_("certificate untrusted"),
        N_("certificate name mismatch"),
        N_("certificate expired"),
        N_("certificate not yet valid"),
        N_("certificate unsuitable"),
        N_("hello refused"),
        N_("encryption required"),
        N_("authentication not offered"),
        N_("mechanism unsupported"),
        N_("credentials refused"),
        N_("application password required"),
        N_("basic authentication disabled"),
        N_("authentication unavailable"),
        N_("oauth token refused"),
        N_("oauth token unreachable"),
        N_("authentication required"),
        N_("sender refused"),
        N_("relay denied"),
        N_("recipient unknown"),
        N_("recipient refused"),
        N_("greylisted"),
        N_("throttled"),
        N_("message too big"),
        N_("message refused"),
        N_("server storage"),
        N_("message deferred"),
        N_("conversation broken"),
        N_("internationalized address unsupported"),
        N_("unclassified"),
        N_("expired"),
        N_("worker died"),
        N_("restored"),
        N_("unreadable"),
        N_("port closed"),
        N_("login missing"),
    }
)
"""Every code as words: those of mail.explanations, and those that the outbox gives itself."""


def name_of(code: str) -> str:
    """A code as a few words in the reader's language: “recipient unknown”."""
    name = code.replace("-", " ")
    return _(name) if name in _NAMES else name
