"""Whatever a server does, a probe ends in time, with a diagnosis, and without a secret in it."""

from __future__ import annotations

import os
import random
import time
import tracemalloc

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.mail_certificates import Trusting, server_context
from tests.support.scripted_smtp import DEFAULT_REPLIES, HANG_UP, Script, ScriptedServer, Talk, replying
from webapp.keyring import Secret
from webapp.mail.probe import Attempt, Result, outcome_of
from webapp.mail.transport import Login, Security, Server

AUTHORITY = trustme.CA()
GOOD = server_context(AUTHORITY.issue_cert("localhost"))
LOGIN = Login("user@example.test", Secret("correct-horse"))
BOUND_SECONDS = 2.0


def probe_it(script: Script, security: Security = Security.NEVER, timeout: float = BOUND_SECONDS) -> Result:
    with ScriptedServer(script) as server:
        place = Server("localhost", server.port, security, "keypost.example.test")
        begun = time.monotonic()
        result = outcome_of(Attempt(place, LOGIN, "a@b.test", "", "c@d.test", None, timeout), Trusting(AUTHORITY))
        assert time.monotonic() - begun < timeout + 0.5
    assert "correct-horse" not in str(result.as_dict())
    assert result.outcome == "accepted" or result.diagnosis is not None
    return result


def dripping(talk: Talk) -> None:
    talk.drip(b"2", 0.05)


def dripping_after_ehlo(talk: Talk) -> None:
    talk.say("220 ready")
    talk.expect("EHLO")
    talk.send(b"250-")
    talk.drip(b"x", 0.05)


def endless_line(talk: Talk) -> None:
    while True:
        talk.send(b"2" * 65536)


def endless_reply(talk: Talk) -> None:
    while True:
        talk.send(b"220-again\r\n" * 1000)


def binary(talk: Talk) -> None:
    while True:
        talk.send(os.urandom(65536))


def endless_hello(talk: Talk) -> None:
    talk.say("220 ready")
    while True:
        talk.send(b"250-" + b"SIZE 99999999999999999999 " * 100 + b"\r\n")


@pytest.mark.parametrize("script", [dripping, dripping_after_ehlo, endless_line, endless_reply, binary, endless_hello])
@pytest.mark.parametrize("security", list(Security))
def test_a_hostile_server_is_bounded(script: Script, security: Security) -> None:
    assert probe_it(script, security).outcome == "failed"


def test_a_hostile_server_takes_little_memory() -> None:
    tracemalloc.start()
    probe_it(endless_line)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("verb", [*DEFAULT_REPLIES])
@pytest.mark.parametrize("security", [Security.SSL, Security.TLS])
def test_hanging_up_anywhere_is_diagnosed(verb: str, security: Security) -> None:
    script = replying(GOOD, at_once=security is Security.SSL, **{verb: HANG_UP})
    result = probe_it(script, security)
    polite = verb in ("RSET", "QUIT") or (verb == "STARTTLS" and security is Security.SSL)
    assert result.outcome == ("accepted" if polite else "failed")


@pytest.mark.parametrize("verb", ["greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "message"])
@pytest.mark.parametrize("reply", ["", "x" * 1_000_000, "250-" * 100_000, "\xff\xfe", "2", "25", "-1 no", "550\x00 no"])
def test_nonsense_anywhere_is_diagnosed(verb: str, reply: str) -> None:
    assert probe_it(replying(**{verb: reply})).outcome == "failed"


garbage = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda code, rest: b"%d%s" % (code, rest), st.integers(0, 999), st.binary(max_size=100)),
    st.builds(
        lambda code, word: b"%d 5.7.%d %s\r\n" % (code, code % 90, word),
        st.integers(200, 599),
        st.sampled_from([b"correct-horse", b"Y29ycmVjdC1ob3JzZQ==", b"no"]),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(replies=st.lists(garbage, max_size=6), seed=st.integers(0, 1000))
def test_random_conversations_end_in_an_explained_result(replies: list[bytes], seed: int) -> None:
    good = [b"220 ready\r\n", b"250-mail\r\n250 AUTH PLAIN LOGIN\r\n", b"235 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"]
    sound = random.Random(seed).randint(0, len(good))

    def script(talk: Talk) -> None:
        for number, reply in enumerate((*good[:sound], *replies)):
            if number:
                talk.hear()
            talk.send(reply)

    probe_it(script, timeout=1)
