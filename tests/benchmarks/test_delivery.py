"""Messages per second from queued row to accepted, beside what else there is, in the same minute on the same machine.

All send the same kind of mail, text and HTML, to the same server in a process of its own. Keypost's time runs from the
commit that queues the messages until the last outcome has been written down with synchronous=FULL; django-post-office's
is that of its own command; smtplib has nothing to write down. The best of some rounds counts, as noise only slows down.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import trustme

from tests.support.figures import Figures
from tests.support.mail_settings import draft
from tests.support.outbox import enqueue, open_relay, save, states
from tests.support.postgres import cluster, fresh_database
from tests.support.sink import Sink
from tests.support.worker_process import address, until, workers
from webapp.actor import Actor, command_line
from webapp.config import ROOT, Config
from webapp.db import Session, utc_now
from webapp.installation import Installation, open_installation
from webapp.keyring import Secret
from webapp.mail.kinds import OUTLINES
from webapp.mail.letters import Letters
from webapp.outbox import lease
from webapp.outbox.messages import Kind, Message, queue
from webapp.outbox.workers import Worker
from webapp.trust.store import import_certificates

HERE = Path(__file__).parent
SHARE = float(os.environ.get("KEYPOST_BENCHMARK_SHARE", "0.3"))
"""How much of the full measurement is made; 1 is 10,000 messages and three rounds."""
MESSAGES = int(10_000 * SHARE)
ROUNDS = max(1, round(3 * SHARE))
DELAY = 0.005
LOGIN = ("user", "correct-horse")

pytestmark = [pytest.mark.benchmark, pytest.mark.slow]


@dataclass(frozen=True)
class Setting:
    """Where mail goes: plain or with STARTTLS and a login, at once or with slow replies."""

    secured: bool
    delay: float

    def __str__(self) -> str:
        return ("STARTTLS and login" if self.secured else "plain") + (", replies after 5 ms" if self.delay else "")

    @property
    def messages(self) -> int:
        """Slow replies need fewer messages to tell."""
        return MESSAGES // 5 if self.delay else MESSAGES


SETTINGS = [Setting(secured, delay) for delay in (0.0, DELAY) for secured in (False, True)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The server's certificate with its key, and the authority that issued it."""
    folder, authority = tmp_path_factory.mktemp("certificates"), trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return folder / "server.pem", folder / "authority.pem"


@pytest.fixture(scope="module")
def durable_server() -> Iterator[sa.URL]:
    """A PostgreSQL that waits for the disk."""
    with cluster(durable=True) as url:
        yield url


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgresql)])
def database_url(request: pytest.FixtureRequest) -> Iterator[sa.URL | None]:
    """A fresh database on a durable PostgreSQL, or None for SQLite."""
    if request.param == "SQLite":
        yield None
        return
    with fresh_database(request.getfixturevalue("durable_server")) as url:
        yield url


@pytest.fixture
def durable(database_url: sa.URL | None, tmp_path: Path) -> Iterator[Installation]:
    """An installation on it."""
    folder = tmp_path / "instance"
    url = database_url.render_as_string(hide_password=False) if database_url else f"sqlite:///{folder / 'keypost.db'}"
    opened = open_installation(Config.from_environment({"KEYPOST_INSTANCE": str(folder), "KEYPOST_DATABASE_URL": url}))
    yield opened
    opened.close()


@contextlib.contextmanager
def sink_for(setting: Setting, folder: Path, certificates: tuple[Path, Path]) -> Iterator[Sink]:
    folder.mkdir(parents=True)
    secured = {"certificate": certificates[0], "login": LOGIN} if setting.secured else {}
    with Sink(folder, delay=setting.delay, **secured) as sink:  # type: ignore[arg-type]
        yield sink


# Keypost


def settle(installation: Installation, setting: Setting, sink: Sink, certificates: tuple[Path, Path]) -> None:
    """Save the settings that lead there."""
    if not setting.secured:
        save(installation.database, open_relay(sink.port))
        return
    with installation.database.transaction() as session:
        import_certificates(session, command_line(), certificates[1].read_bytes(), source="benchmark")
    save(
        installation.database,
        draft(server_name="localhost", port=sink.port, username=LOGIN[0], password=Secret(LOGIN[1])),
    )


def ours(installation: Installation, count: int, sink: Sink, folder: Path, numbers: Iterator[int]) -> float:
    """Messages a second of one worker that sleeps until the commit wakes it."""
    database = installation.database
    with workers(installation, folder) as (worker,):
        until(lambda: _alive(installation))
        before = sink.count()
        recipients = [address(next(numbers)) for _ in range(count)]
        enqueue(database, *recipients)
        begun = database.clock()
        until(lambda: sink.count() - before >= count, 300, every=0.05)
        until(lambda: not {"queued", "sending"} & states(database).keys())
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    with database.reading() as session:
        ended = session.scalar(sa.select(sa.func.max(Message.ended_at)))
    assert ended is not None
    assert sink.count() - before == count
    return count / (ended - begun).total_seconds()


def _alive(installation: Installation) -> bool:
    with installation.database.reading() as session:
        return bool(session.scalar(sa.select(sa.func.count()).select_from(Worker)))


# The references


@pytest.fixture(scope="module")
def letter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """One of Keypost's own letters, as bytes in a file and as words."""
    outline = OUTLINES[Kind.ACCOUNT_CREATED]
    letters = Letters(
        sender_address="keypost@example.test", sender_name="", access_url="https://keypost.example.test", edited={}
    )
    message = _leased(outline.about)
    words = letters.word(message, outline.data)
    path = tmp_path_factory.mktemp("letter") / "letter.eml"
    path.write_bytes(letters.write(message, outline.data).content)
    return path, {"subject": words.subject, "text": words.text, "html": words.html}


def _leased(about: str) -> lease.Leased:
    when = utc_now()
    values: dict[str, Any] = dict.fromkeys(lease.Leased._fields)
    values |= {"id": 1, "token": "f" * 32, "kind": Kind.ACCOUNT_CREATED.value, "recipient": address(0)}
    values |= {"recipient_name": "Bob", "about": about, "cause": "Alice", "attempts": 0, "queued_at": when}
    values |= {"expires_at": when + timedelta(days=5), "message_id": f"<{'f' * 32}@example.test>", "lease": "x"}
    return lease.Leased(**values)


def bare(
    way: str, count: int, *, sink: Sink, letter: tuple[Path, dict[str, str]], setting: Setting, authority: Path
) -> float:
    given: dict[str, Any] = {"host": "localhost", "port": sink.port, "count": count, "way": way}
    given |= {"message": str(letter[0]), "words": letter[1]}
    if setting.secured:
        given |= {"authority": str(authority), "login": LOGIN}
    return count / _seconds([sys.executable, "-I", str(HERE / "bare_smtp.py"), json.dumps(given)])


@pytest.fixture(scope="module")
def post_office_python() -> Path:
    """An environment of django-post-office's own, inside .venv, made once for each lock."""
    lock = ROOT / "requirements" / "benchmark.lock"
    folder = ROOT / ".venv" / f"benchmark-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(folder)
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--require-hashes"]
        subprocess.run([*install, "--only-binary", ":all:", "-r", str(lock)], check=True)
        (folder / "complete").touch()
    return python


def post_office(
    python: Path,
    count: int,
    *,
    sink: Sink,
    words: dict[str, str],
    setting: Setting,
    authority: Path,
    url: sa.URL | None,
) -> float:
    folder = sink.log.parent
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(folder / "post_office.db")}
    if url is not None:
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": url.database or "", "USER": url.username or ""}
        database |= {"HOST": str(url.query.get("host") or url.host), "PORT": str(url.port or "")}
        database |= {"PASSWORD": str(url.password or "")}
    given: dict[str, Any] = {"host": "localhost", "port": sink.port, "count": count, "words": words}
    given |= {"database": database, "lock": str(folder / "lock"), "login": LOGIN if setting.secured else None}
    command = [str(python), "-I", str(HERE / "post_office.py"), json.dumps(given)]
    return count / _seconds(command, SSL_CERT_FILE=str(authority))


def _seconds(command: list[str], **environment: str) -> float:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return float(done.stdout.splitlines()[-1])


# The comparison


@pytest.fixture
def rates(
    durable: Installation,
    database_url: sa.URL | None,
    certificates: tuple[Path, Path],
    post_office_python: Path,
    letter: tuple[Path, dict[str, str]],
) -> Callable[[Setting, Path], tuple[float, float]]:
    """Gives Keypost's best rate and django-post-office's."""

    def measure(setting: Setting, folder: Path) -> tuple[float, float]:
        mine, theirs, numbers = [], [], iter(range(1_000_000))
        with sink_for(setting, folder / "ours", certificates) as sink:
            settle(durable, setting, sink, certificates)
            for _ in range(ROUNDS):
                mine.append(ours(durable, setting.messages, sink, folder, numbers))
        for number in range(ROUNDS):
            count = setting.messages // 4
            with sink_for(setting, folder / f"theirs-{number}", certificates) as sink:
                theirs.append(
                    post_office(
                        post_office_python,
                        count,
                        sink=sink,
                        words=letter[1],
                        setting=setting,
                        authority=certificates[1],
                        url=database_url,
                    )
                )
                assert sink.count() == count
        return max(mine), max(theirs)

    return measure


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_messages_a_second_beside_django_post_office(
    rates: Callable[[Setting, Path], tuple[float, float]],
    database_url: sa.URL | None,
    setting: Setting,
    tmp_path: Path,
    figures: Figures,
) -> None:
    mine, theirs = rates(setting, tmp_path)
    subject = f"messages a second, {setting}, {'PostgreSQL' if database_url else 'SQLite'}"
    aim = 4 if setting.delay else 8 if database_url else 10
    figures(subject, "Keypost, one worker", mine, f"({setting.messages:,} messages)")
    figures(subject, "django-post-office with its defaults", theirs, f"({setting.messages // 4:,} messages)")
    figures(subject, "ratio", mine / theirs, f"(aim {aim})")
    assert mine / theirs > aim / 4


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_messages_a_second_of_bare_smtplib(
    setting: Setting,
    certificates: tuple[Path, Path],
    letter: tuple[Path, dict[str, str]],
    tmp_path: Path,
    figures: Figures,
) -> None:
    ways = {"ready": 4, "built": 10, "apart": 20}
    words = {
        "ready": "smtplib, one connection, ready bytes",
        "built": "smtplib, one connection, an EmailMessage built for each",
        "apart": "smtplib, a connection for each message",
    }
    for way, part in ways.items():
        with sink_for(setting, tmp_path / way, certificates) as sink:
            count = setting.messages // part
            rate = bare(way, count, sink=sink, letter=letter, setting=setting, authority=certificates[1])
            figures(f"messages a second, {setting}, without a database", words[way], rate, "")


def test_it_keeps_to_flat_memory(durable: Installation, tmp_path: Path, figures: Figures) -> None:
    """What the worker holds after ten times as many messages is what it held before."""
    with Sink(tmp_path) as sink:
        save(durable.database, open_relay(sink.port))
        with workers(durable, tmp_path) as (worker,):
            resident = []
            for count in (1000, 10_000):
                enqueue(durable.database, *(address(count * 10 + number) for number in range(count)))
                until(lambda: not {"queued", "sending"} & states(durable.database).keys(), 120, every=0.1)
                resident.append(worker.resident_megabytes)
            worker.send(signal.SIGTERM)
            assert worker.wait() == 0
    engine = "SQLite" if durable.database.is_sqlite else "PostgreSQL"
    figures(f"memory of a worker, {engine}", "after 1,000 messages", resident[0], "MB")
    figures(f"memory of a worker, {engine}", "after 11,000 messages", resident[1], "MB")
    assert resident[1] < resident[0] + 25


def test_an_idle_worker_sends_at_once(durable: Installation, tmp_path: Path, figures: Figures) -> None:
    """From the commit to the server's log, one message at a time."""
    numbers, times = iter(range(100_000)), []
    with Sink(tmp_path) as sink:
        save(durable.database, open_relay(sink.port))
        with workers(durable, tmp_path):
            until(lambda: _alive(durable))
            for _ in range(max(100, int(1000 * SHARE))):
                number = next(numbers)
                enqueue(durable.database, address(number))
                begun = time.time_ns()
                until(lambda number=number: sink.count() > number, every=0.0005)  # type: ignore[misc]
                accepted = sink.accepted()[-1]
                assert accepted.recipient == address(number)
                times.append((accepted.at - begun) / 1e6)
    times = sorted(times[5:])
    engine = "SQLite" if durable.database.is_sqlite else "PostgreSQL"
    figures(f"from commit to accepted, idle worker, {engine}", "p50", times[len(times) // 2], "ms")
    p99 = times[int(len(times) * 0.99)]
    figures(f"from commit to accepted, idle worker, {engine}", "p99", p99, "ms (aim 10)")
    assert times[len(times) // 2] < 100


def test_queueing_costs_little_beyond_the_row_that_causes_it(durable: Installation, figures: Figures) -> None:
    """What queue() adds to a transaction that writes a row of its own anyway."""
    table = sa.Table("benchmark_rows", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    table.append_column(sa.Column("name", sa.String(200)))
    table.create(durable.database.engine)
    alone, together, actor = [], [], command_line()
    for _ in range(max(100, int(600 * SHARE))):
        for times, mails in ((alone, False), (together, True)):
            begun = time.perf_counter()
            with durable.database.transaction() as session:
                session.execute(sa.insert(table), {"name": "A server that somebody added"})
                if mails:
                    _queue_one(session, actor)
            times.append((time.perf_counter() - begun) * 1000)
    alone.sort()
    together.sort()
    extra = together[len(together) // 2] - alone[len(alone) // 2]
    engine = "SQLite" if durable.database.is_sqlite else "PostgreSQL"
    figures(f"queueing, {engine}", "the caller's own row", alone[len(alone) // 2], "ms, median")
    figures(f"queueing, {engine}", "a message beyond it", extra, "ms, median (aim 0.1)")
    assert extra < 5


def _queue_one(session: Session, actor: Actor) -> None:
    outline = OUTLINES[Kind.ACCOUNT_CREATED]
    queue(session, actor, Kind.ACCOUNT_CREATED, recipient=address(1), about=outline.about, data=outline.data)
