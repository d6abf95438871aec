"""A test of settings that may not be saved yet: prepared, run stage by stage, and remembered however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from webapp.actor import Actor
from webapp.audit import trail
from webapp.db import Database
from webapp.keyring import Secret
from webapp.mail import checks, confirmation, settings
from webapp.mail.checks import Fingerprint
from webapp.mail.probe import Result, Stage, probe
from webapp.mail.settings import Draft, Target
from webapp.mail.transport import Trust


@dataclass(frozen=True, slots=True)
class Trial:
    """A test that may run: what is tried, as whom, where its outcome will be recorded, and its mail's code."""

    database: Database
    trust: Trust
    actor: Actor
    target: Target
    fingerprint: Fingerprint
    recipient: str
    check_id: int
    code: Secret

    @property
    def username(self) -> str:
        """Who signs in; empty when nobody does."""
        return self.target.login.username if self.target.login else ""

    def run(self) -> Iterator[Stage | Result]:
        """Yields each Stage as it ends, last the Result, which is recorded before it is shown."""
        recorded = False
        attempt = self.target.attempt(
            self.recipient,
            code=self.code.reveal(),
            confirmation_url=confirmation.url(self.target.access_url, self.code),
        )
        try:
            for happened in probe(attempt, self.trust):
                if isinstance(happened, Result):
                    self._record(happened)
                    recorded = True
                yield happened
        finally:
            if not recorded:
                self._note_abandoned()

    def _record(self, result: Result) -> None:
        with self.database.transaction() as session:
            checks.record_check(
                session,
                kind="test",
                fingerprint=self.fingerprint,
                result=result,
                actor=self.actor,
                recipient=self.recipient,
                check_id=self.check_id,
            )

    def _note_abandoned(self) -> None:
        server = self.target.server
        with self.database.transaction() as session:
            checks.end(session, self.check_id, checks.ABANDONED)
            trail.record(
                session,
                self.actor,
                "mail:test",
                subject="mail-settings",
                outcome="abandoned",
                server=server.name,
                port=server.port,
                recipient=self.recipient,
            )


def prepare_trial(database: Database, trust: Trust, actor: Actor, draft: Draft, *, recipient: str) -> Trial:
    """Judge a draft as saving would, and note that a test begins.

    Raises InvalidFields for what is wrong on the screen, Refused after too many tests.
    """
    with database.transaction() as session:
        settings.attempt_for(session, actor, draft, recipient=recipient)
        target = settings.target_for(session, actor, draft)
        fingerprint = checks.fingerprint_of(session, target)
        check_id = checks.begin_test(session, actor, fingerprint, recipient)
        code = confirmation.expect(session, check_id)
    return Trial(database, trust, actor, target, fingerprint, recipient, check_id, code)
