"""What an import, a list and a removal leave in the database and in the audit trail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.trust.authorities import issue
from webapp.actor import Actor, Role, command_line
from webapp.audit.trail import AuditLine, verify
from webapp.db import Database
from webapp.errors import NotFound
from webapp.trust import store
from webapp.trust.certificates import CertificateRefused

ALICE = Actor(7, "Alice", "127.0.0.1", Role.ADMINISTRATOR)
ROOT = issue("root", authority=True)


def put(database: Database, data: bytes, actor: Actor = ALICE, **where: object) -> list[store.Imported]:
    with database.transaction() as session:
        return store.import_certificates(session, actor, data, source="root.pem", **where)  # type: ignore[arg-type]


def everything(database: Database) -> list[store.Trusted]:
    with database.reading() as session:
        return store.trusted(session)


def audit(database: Database) -> list[tuple[str, str]]:
    with database.reading() as session:
        assert verify(session).sound
        return [(line.action, line.subject) for line in session.scalars(sa.select(AuditLine).order_by(AuditLine.id))]


def test_an_import_says_what_it_took(database: Database) -> None:
    [imported] = put(database, ROOT.pem)
    assert (imported.description.sha256, imported.already_there) == (ROOT.sha256, False)


def test_the_list_says_who_imported_what_and_from_where(database: Database) -> None:
    put(database, ROOT.pem)
    [root] = everything(database)
    assert (root.sha256, root.host, root.port) == (ROOT.sha256, None, None)
    assert (root.imported_by, root.imported_by_name, root.source) == (7, "Alice", "root.pem")
    assert abs(root.imported_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_each_new_certificate_leaves_an_audit_line(database: Database) -> None:
    other = issue("other", authority=True)
    put(database, ROOT.pem + other.pem)
    assert audit(database)[-2:] == [
        ("certificate:import", f"certificate:{ROOT.sha256}"),
        ("certificate:import", f"certificate:{other.sha256}"),
    ]


def test_a_second_import_changes_nothing(database: Database) -> None:
    put(database, ROOT.pem)
    before = audit(database)
    [again] = put(database, ROOT.der, command_line())
    assert again.already_there
    assert (len(everything(database)), audit(database)) == (1, before)


def test_a_pin_stands_beside_a_general_import(database: Database) -> None:
    leaf = issue("mail", "mail.test")
    put(database, leaf.pem)
    [pinned] = put(database, leaf.pem, host="MAIL.test.", port=465)
    assert not pinned.already_there
    assert [(each.host, each.port) for each in everything(database)] == [(None, None), ("mail.test", 465)]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: issue("mail", "mail.test", days=(-9, -1)), "expired on"),
        (lambda: issue("mail", "mail.test", days=(2, 9)), "not valid before"),
        (lambda: issue("mail"), "holds no server name"),
    ],
)
def test_what_could_never_serve_is_refused_and_nothing_is_half_imported(
    database: Database, made: object, reason: str
) -> None:
    before = audit(database)
    with pytest.raises(CertificateRefused, match=reason):
        put(database, ROOT.pem + made().pem)  # type: ignore[operator]
    assert (everything(database), audit(database)) == ([], before)


def test_expired_certificates_are_taken_with_consent(database: Database) -> None:
    [imported] = put(database, issue("mail", "mail.test", days=(-9, -1)).pem, confirm_expired=True)
    assert not imported.already_there


def test_only_one_certificate_can_be_pinned(database: Database) -> None:
    with pytest.raises(CertificateRefused, match="Give that one alone"):
        put(database, issue("mail").pem + ROOT.pem, host="mail.test", port=465)


@pytest.mark.parametrize("half", [{"host": "mail.test"}, {"port": 465}, {"host": "", "port": 465}])
def test_half_a_place_is_no_place(database: Database, half: dict[str, object]) -> None:
    with pytest.raises(CertificateRefused, match="name both"):
        put(database, ROOT.pem, **half)


def test_it_removes_by_the_fingerprint_as_tools_print_it(database: Database) -> None:
    [imported] = put(database, ROOT.pem)
    with database.transaction() as session:
        store.remove(session, ALICE, imported.description.fingerprint)
    assert everything(database) == []
    assert audit(database)[-1] == ("certificate:remove", f"certificate:{ROOT.sha256}")


def test_it_removes_one_pin_alone(database: Database) -> None:
    leaf = issue("mail")
    for port in (465, 587):
        put(database, leaf.pem, host="mail.test", port=port)
    with database.transaction() as session:
        store.remove(session, ALICE, leaf.sha256, host="Mail.test", port=465)
    assert [each.port for each in everything(database)] == [587]


def test_it_cannot_remove_what_is_not_there(database: Database) -> None:
    with database.transaction() as session, pytest.raises(NotFound, match="Look it up"):
        store.remove(session, ALICE, ROOT.sha256)


def test_it_names_what_ends_soon_and_what_has_ended(database: Database) -> None:
    for days in (3, 40):
        put(database, issue(f"{days} days", authority=True, days=(-1, days)).pem)
    put(database, issue("ended", authority=True, days=(-9, -1)).pem, confirm_expired=True)
    with database.reading() as session:
        assert [each.description.label for each in store.expiring(session, 30)] == ["ended", "3 days"]


def test_the_fingerprints_of_a_place_are_those_a_connection_trusts(database: Database) -> None:
    leaf = issue("mail")
    put(database, ROOT.pem)
    put(database, leaf.pem, host="mail.test", port=465)
    with database.reading() as session:
        assert store.fingerprints(session, "mail.test", 465) == {ROOT.sha256, leaf.sha256}
        assert store.fingerprints(session, "mail.test", 587) == {ROOT.sha256}


def test_a_row_that_was_written_without_the_master_key_counts_for_nothing(database: Database) -> None:
    der = issue("root", authority=True).der
    with database.transaction() as session:
        [imported] = store.import_certificates(session, command_line(), der, source="ours.pem")
        session.execute(sa.update(store.TrustedCertificate).values(host="", mark="0" * 64))
    with database.transaction() as session:
        assert store.fingerprints(session, "mail.test", 465) == frozenset()
        assert [each.forged for each in store.trusted(session)] == [True]
        store.import_certificates(session, command_line(), der, source="ours.pem")
        assert store.fingerprints(session, "mail.test", 465) == {imported.description.sha256}


def test_a_pin_moved_to_another_server_in_the_database_does_not_hold_there(database: Database) -> None:
    with database.transaction() as session:
        store.import_certificates(session, command_line(), issue("own").der, source="x", host="a.test", port=465)
        session.execute(sa.update(store.TrustedCertificate).values(host="b.test"))
        assert store.fingerprints(session, "b.test", 465) == frozenset()
