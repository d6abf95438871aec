"""Writing a letter costs a small part of what the email package needs for the same text and HTML."""

from __future__ import annotations

import secrets
import timeit
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

import pytest

from webapp.mail.kinds import OUTLINES
from webapp.mail.letters import Letters
from webapp.outbox.lease import Leased
from webapp.outbox.messages import Kind

ROUNDS, MESSAGES = 7, 200
BASE = "https://keypost.example.test"


def leased(number: int, kind: Kind) -> Leased:
    token, now = secrets.token_hex(16), datetime.now(UTC)
    return Leased(
        id=number,
        token=token,
        kind=kind.value,
        user_id=number,
        recipient=f"person-{number}@example.test",
        recipient_name=f"Person {number}",
        about=OUTLINES[kind].about,
        cause="Alice Admin",
        sealed=None,
        attempts=0,
        queued_at=now,
        expires_at=now,
        message_id=f"<{token}@example.test>",
        lease="1",
    )


def with_the_email_package(letters: Letters, message: Leased, kind: Kind) -> bytes:
    """The same message by the standard library: its words are filled in by us, the rest is its own work."""
    words = letters.word(message, OUTLINES[kind].data)
    built = EmailMessage(policy=SMTP)
    built["From"] = "Keypost <keypost@example.test>"
    built["To"] = message.recipient
    built["Subject"] = words.subject
    built["Date"] = format_datetime(message.queued_at)
    built["Message-ID"] = message.message_id
    built["Auto-Submitted"] = "auto-generated"
    built.set_content(words.text)
    built.add_alternative(words.html, subtype="html")
    return built.as_bytes()


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", [Kind.ACCOUNT_CREATED, Kind.ACCOUNT_SHARED])
def test_a_letter_is_written_ten_times_as_fast_as_by_the_email_package(
    kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = Letters(sender_address="keypost@example.test", sender_name="Keypost", access_url=BASE, edited={})
    waiting, data = [leased(number, kind) for number in range(MESSAGES)], OUTLINES[kind].data

    def ours() -> None:
        for message in waiting:
            letters.write(message, data)

    def theirs() -> None:
        for message in waiting:
            with_the_email_package(letters, message, kind)

    mine, other = (min(timeit.repeat(work, number=1, repeat=ROUNDS)) / MESSAGES * 1e6 for work in (ours, theirs))
    with capsys.disabled():
        print(f"\na letter ({kind}): {mine:.0f} µs; by the email package: {other:.0f} µs; ratio {other / mine:.0f}")
    assert other > 10 * mine
