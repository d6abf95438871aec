"""Whether mail leaves: what somebody who has just queued one must know."""

from __future__ import annotations

from dataclasses import dataclass

from webapp.db import Session
from webapp.i18n import gettext as _
from webapp.mail import retrospect, settings
from webapp.outbox import pause
from webapp.outbox.pause import Pause


@dataclass(frozen=True, slots=True)
class Leaving:
    """access_url: where links lead; None until mail is set up. pause: why mail waits, if it does."""

    access_url: str | None
    pause: Pause | None

    @property
    def is_set_up(self) -> bool:
        return self.access_url is not None

    @property
    def works(self) -> bool:
        """Whether a mail that is queued now leaves, as far as is known."""
        return self.is_set_up and self.pause is None

    @property
    def reason(self) -> str:
        """Why no mail leaves, a sentence; empty when it does."""
        if not self.is_set_up:
            return _("Mail is not set up yet, so nobody is told by mail.")
        return (
            _("Mail is paused: %(cause)s", cause=retrospect.meaning_of_pause(self.pause).cause)
            if self.pause is not None
            else ""
        )


def leaving(session: Session) -> Leaving:
    """How it stands with mail now."""
    saved = settings.current(session)
    return Leaving(saved.access_url if saved else None, pause.current(session))
