"""A rotation of many secrets while others write and read, killed twice and resumed: nothing is lost, nobody fails.

`KEYPOST_SECRETS=100000 bin/test tests/benchmarks/test_rotation_under_load.py -s` is the large one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from webapp.actor import Role, command_line
from webapp.db import Database
from webapp.identity.users import add_user
from webapp.installation import Installation
from webapp.keyring import Secret
from webapp.keys import rotation
from webapp.vault import accounts
from webapp.vault.accounts import AccountPassword
from webapp.vault.resources import ResourceDetails, add_resource

ROOT = Path(__file__).resolve().parents[2]
SECRETS = int(os.environ.get("KEYPOST_SECRETS", "5000"))


def _fill(database: Database) -> tuple[int, int]:
    """An account with many former passwords, and one that is worked with; gives their numbers."""
    actor = command_line()
    with database.transaction() as session:
        ada = add_user(session, actor, email="ada@example.com", name="Ada", role=Role.ADMINISTRATOR)
        host = add_resource(session, actor, ResourceDetails(name="Host", kind="Server"), owner_id=ada.id)
        many = accounts.add_account(session, actor, host.id, "many", Secret("1"))
        busy = accounts.add_account(session, actor, host.id, "busy", Secret("0"))
    for start in range(2, SECRETS + 1, 5000):
        with database.transaction() as session:
            session.execute(sa.insert(AccountPassword), [
                {
                    "account_id": many.id, "version": version, "set_at": session.now(), "set_by_name": "",
                    "sealed": session.keyring.seal(
                        Secret(str(version)), table="account_passwords", row=f"{many.id}/{version}", field="password"
                    ),
                }
                for version in range(start, min(start + 5000, SECRETS + 1))
            ])  # fmt: skip
    return many.id, busy.id


class _Load:
    """Somebody who changes a password and reads it back, again and again."""

    def __init__(self, database: Database, account_id: int) -> None:
        self._database, self._account_id = database, account_id
        self._over = threading.Event()
        self.turns, self.longest, self.faults = 0, 0.0, list[str]()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                self._turn(str(self.turns))
            except Exception as error:
                self.faults.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - began)
            self.turns += 1

    def _turn(self, text: str) -> None:
        with self._database.transaction() as session:
            accounts.set_password(session, command_line(), self._account_id, Secret(text))
        with self._database.transaction() as session:
            assert accounts.reveal(session, command_line(), self._account_id).reveal() == text

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def _rotating(installation: Installation) -> subprocess.Popen[bytes]:
    environment = {
        "KEYPOST_INSTANCE": str(installation.config.instance),
        "KEYPOST_DATABASE_URL": installation.config.database_url,
    }
    command = [sys.executable, "-m", "webapp.cli", "keys", "rotate", "--batch", str(max(SECRETS // 50, 1)), "--json"]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)


def _wait_until_left(database: Database, most: int) -> None:
    """Until a rotation is under way and leaves at most so many secrets."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        with database.reading() as session:
            terms, left = len(rotation.terms(session)), rotation.remaining(session)
        if terms > 1 and left <= most:
            return
    raise AssertionError("the rotation did not come so far")


@pytest.mark.benchmark
@pytest.mark.slow
def test_a_rotation_under_load_killed_twice_loses_nothing(installation: Installation) -> None:
    database = installation.database
    many, busy = _fill(database)
    load, began = _Load(database, busy), time.monotonic()
    for part in (0.9, 0.5):
        running = _rotating(installation)
        _wait_until_left(database, int(SECRETS * part))
        running.kill()
        running.wait()
    assert _rotating(installation).wait(900) == 0
    took = time.monotonic() - began
    load.end()
    print(f"{SECRETS:,} secrets in {took:.1f} s; beside them {load.turns:,} turns, the longest {load.longest:.2f} s")
    assert load.faults == []
    assert load.turns > 0
    with database.transaction() as session:
        (term,) = rotation.terms(session)
        assert term.in_force
    with database.reading() as session:
        for kept in session.scalars(sa.select(AccountPassword).where(AccountPassword.account_id == many)):
            place = {"table": "account_passwords", "row": f"{many}/{kept.version}", "field": "password"}
            assert session.keyring.unseal(kept.sealed, **place) == Secret(str(kept.version))
