"""`bin/serve` as a person starts it: a real process, a real port, a real Ctrl-C and a real kill -9."""

from __future__ import annotations

import base64
import http.client
import http.cookiejar
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.worker_process import until
from webapp.audit import trail
from webapp.config import Config
from webapp.installation import open_installation
from webapp.vault.resources import Resource

PASSWORD = "correct horse battery staple"


class Serving:
    """A running `keypost serve` and what it printed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        environment = {**os.environ, "KEYPOST_INSTANCE": str(folder), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "webapp.cli", "serve", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.base = self._line("Keypost is ready at ")

    def _line(self, beginning: str) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(beginning):
            self.process.kill()
            pytest.fail(f"expected “{beginning}…”, got {line!r} and {self.process.communicate()[1]!r}")
        return line.removeprefix(beginning).strip()

    def setup_link(self) -> str:
        return self._line("Set it up within the hour: ")

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=15)
        return self.process.returncode


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    running = Serving(folder, "--port", "0")
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)


def refused(folder: Path, *arguments: str) -> str:
    """Start it where it cannot start; gives the one sentence."""
    done = subprocess.run(
        [sys.executable, "-m", "webapp.cli", "serve", *(arguments or ("--port", "0"))],
        env={**os.environ, "KEYPOST_INSTANCE": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


class Visitor:
    """A browser without scripts."""

    def __init__(self) -> None:
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(jar)

    def get(self, url: str) -> str:
        with self._opener.open(url, timeout=10) as response:
            return str(response.read().decode())

    def post(self, form_page: str, url: str, **fields: str) -> str:
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', self.get(form_page))
        assert found
        data = urllib.parse.urlencode({"csrf_token": found[1], **fields}).encode()
        with self._opener.open(url, data, timeout=10) as response:
            return str(response.read().decode())


def claim(running: Serving) -> Visitor:
    visitor, link = Visitor(), running.setup_link()
    token = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)["token"][0]
    page = visitor.post(
        link, f"{running.base}/setup", token=token, name="Alice", email="alice@example.test", password=PASSWORD
    )
    assert "Mail Server Settings" in page
    return visitor


def test_the_first_start_prints_a_link_that_makes_the_first_administrator(tmp_path: Path) -> None:
    with serving(tmp_path / "instance") as running:
        claim(running)


def test_without_the_token_nobody_can_claim_it(tmp_path: Path) -> None:
    with serving(tmp_path / "instance") as running, pytest.raises(urllib.error.HTTPError) as caught:
        Visitor().get(f"{running.base}/setup?token=guess")
    assert caught.value.code == 403
    caught.value.close()


def test_the_folder_and_its_files_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    with serving(folder):
        # The worker begins beside the pages, and may still be at it when they are ready.
        until(lambda: [bell.stat().st_mode & 0o777 for bell in folder.glob("*.wake/*")] == [0o600])
        assert folder.stat().st_mode & 0o777 == 0o700
        inside = list(folder.rglob("*"))
        files = {path.name: path.stat().st_mode & 0o777 for path in inside if not path.is_dir()}
        folders = {path.name: path.stat().st_mode & 0o777 for path in inside if path.is_dir()}
    assert {"keypost.db", "master.key"} <= files.keys()
    assert set(files.values()) == {0o600}
    assert set(folders.values()) == {0o700}, "the folder in which workers are woken"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system shows no process to others")
def test_the_key_is_in_no_process_list_and_no_environment(tmp_path: Path) -> None:
    with serving(tmp_path / "instance") as running:
        written = (tmp_path / "instance" / "master.key").read_text().strip()
        key = bytes.fromhex(written)
        shown = Path("/proc", str(running.process.pid))
        for file in ("cmdline", "environ"):
            read = (shown / file).read_bytes()
            assert read
            for form in (key, written.encode(), base64.b64encode(key)):
                assert form not in read
        assert re.search(r"Max core file size +0 ", (shown / "limits").read_text())


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path / "instance") as running:
        assert running.end(signal.SIGINT) == 0


def test_a_service_manager_ends_it_cleanly(tmp_path: Path) -> None:
    with serving(tmp_path / "instance") as running:
        assert running.end(signal.SIGTERM) == 0


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        sentence = refused(tmp_path / "instance", "--port", port)
    assert f"port {port}" in sentence
    assert sentence.count("\n") == 0


def test_a_missing_key_is_one_sentence_and_no_new_key_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    with serving(folder) as running:
        running.end()
    (folder / "master.key").unlink()
    assert "master.key" in refused(folder)
    assert not (folder / "master.key").exists()


def test_another_installations_key_is_refused_and_the_database_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    with serving(folder) as running:
        running.end()
    before = (folder / "keypost.db").read_bytes()
    (folder / "master.key").write_text(secrets.token_hex(32) + "\n")
    assert "not the one this database was sealed with" in refused(folder)
    assert (folder / "keypost.db").read_bytes() == before


def test_a_port_that_is_no_number_is_one_sentence(tmp_path: Path) -> None:
    assert "not a port" in refused(tmp_path / "instance", "--port", "eighty")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be made" in refused(tmp_path / "instance")


def test_kill_9_in_the_middle_of_saving_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    answered: list[str] = []
    with serving(folder) as running:
        visitor = claim(running)
        enough = threading.Event()

        def save_on_and_on() -> None:
            try:
                for number in range(10_000):
                    form = f"{running.base}/resources/new"
                    page = visitor.post(form, form, name=f"resource {number}", kind="Server")
                    assert f"resource {number}" in page
                    answered.append(f"resource {number}")
                    if number == 20:
                        enough.set()
            except (OSError, urllib.error.URLError, http.client.HTTPException):
                enough.set()

        saving = threading.Thread(target=save_on_and_on)
        saving.start()
        assert enough.wait(60)
        running.end(signal.SIGKILL)
        saving.join(30)
    with serving(folder) as again:
        assert Visitor().get(f"{again.base}/healthz")
        again.end()
    assert len(answered) > 20
    installation = open_installation(Config.from_environment({"KEYPOST_INSTANCE": str(folder)}))
    with installation.database.reading() as session:
        kept = {resource.name for resource in session.query(Resource)}
        added = session.query(trail.AuditLine).filter_by(action="resource:add").count()
        assert trail.verify(session).sound
    installation.close()
    assert set(answered) <= kept
    assert added == len(kept)


def test_a_second_start_takes_about_a_second(tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    with serving(folder) as running:
        running.end()
    empty = time.monotonic()
    subprocess.run([sys.executable, "-c", "import flask, sqlalchemy, waitress"], check=True)
    reference = time.monotonic() - empty
    begun = time.monotonic()
    with serving(folder):
        taken = time.monotonic() - begun
    assert taken < 6 * reference + 1
