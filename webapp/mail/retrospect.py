"""What a recorded attempt means, said later: from the code, the server and the recipient that were written down.

What else a conversation would have filled in was not kept, and is said in general words.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from webapp.i18n import SOURCE, Sentence, explain, lazy, reader
from webapp.i18n import gettext as _
from webapp.mail.diagnosis import stage_in_words
from webapp.mail.explanations import CODES
from webapp.outbox.pause import Pause

_GENERAL: Final = {
    "mode": lazy("the chosen mode"),
    "hello": lazy("it has"),
    "sender": lazy("the sender’s address"),
    "username": lazy("the saved user"),
    "addresses": lazy("its address"),
    "names": lazy("other names"),
    "subject": lazy("see the test on the settings page"),
    "issuer": lazy("an authority"),
    "not_before": lazy("a later date"),
    "not_after": lazy("on a date that the test shows"),
    "sha256": lazy("(run the test to see it)"),
    "detail": lazy("see the server’s words"),
    "seconds": lazy("some"),
    "other": lazy("another"),
    "stage": lazy("of the attempt"),
}


class Meaning(NamedTuple):
    """cause: what happened and why; remedy: what to do."""

    cause: str
    remedy: str


_OURS: Final = {
    "expired": Meaning(
        lazy("The time within which this message made sense ran out before it could be sent."),
        lazy("See what kept mail from leaving, then do again what brought the message about."),
    ),
    "worker-died": Meaning(
        lazy(
            "Three times the program that delivers ended while it held this message, so it was set "
            "aside: it may be what ends it."
        ),
        lazy(
            "Look into Keypost’s log for the time of the attempts. Then try it again: it is taken "
            "alone, and harms no other."
        ),
    ),
    "restored": Meaning(
        lazy("It waited in a backup that was restored, and may have been sent before that."),
        lazy("Ask whether it arrived. If it did not, try it again; if it is out of date, leave it."),
    ),
    "unreadable": Meaning(
        lazy(
            "Keypost could not make a mail of what is stored: it was altered in the database, or its "
            "text cannot be filled in."
        ),
        lazy("Do again what brought it about. If a text was edited under Texts of mails, compare it with the default."),
    ),
    "port-closed": Meaning(
        lazy("KEYPOST_MAIL_PORTS does not let mail use the port of the mail settings."),
        lazy("Choose another port in the Mail Server Settings, or have this one added to KEYPOST_MAIL_PORTS."),
    ),
    "login-missing": Meaning(
        lazy("The login of the mail settings is gone."),
        lazy("Open the Mail Server Settings, and choose or type it again."),
    ),
}


def meaning_of(code: str, *, server: str, recipient: str, stage: str = "") -> Meaning | None:
    """The cause and the remedy of a recorded code; None for one that this program does not know.

    server: as ``host:port``.
    """
    if code in _OURS:
        return Meaning(*map(str, _OURS[code]))
    if code not in CODES:
        return None
    name, _rest, port = server.rpartition(":")
    words = _GENERAL | {
        "server": name or _("The mail server"),
        "port": port or _("in use"),
        "recipient": recipient,
        "stage": stage_in_words(stage) if stage else _GENERAL["stage"],
    }
    return Meaning(explain(CODES[code].cause, **words), explain(CODES[code].remedy, **words))


def meaning_of_pause(pause: Pause) -> Meaning:
    """Why delivery is paused, and what to do.

    Earlier versions wrote it down in English: another reader is then told by its code.
    """
    written = Meaning(pause.cause, pause.remedy)
    if isinstance(pause.cause, Sentence) or reader().language == SOURCE:
        return written
    return meaning_of(pause.code, server=pause.server, recipient="", stage=pause.stage) or written
