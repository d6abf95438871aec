"""Finding settings, with real mail servers and a real, tiny DNS server on loopback."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from urllib.parse import parse_qs

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
import sqlalchemy as sa
import trustme

from tests.support.mail_server import MailServer
from tests.support.scripted_smtp import ScriptedServer, replying
from webapp.actor import command_line
from webapp.audit.trail import AuditLine
from webapp.db import Database
from webapp.errors import Invalid
from webapp.mail.dial import Address
from webapp.mail.discovery import (
    MOST_CANDIDATES,
    Found,
    Question,
    Records,
    candidates_for,
    look_up,
    prepare_search,
    search,
    understood,
)
from webapp.mail.presets import for_domain, for_mail_exchangers, presets
from webapp.mail.transport import Security, Server
from webapp.trust.store import TrustStore, import_certificates


class NameServer:
    """Answers over UDP from a table of records, and says that every other name does not exist."""

    def __init__(self, records: dict[tuple[str, str], Sequence[str]], *, silent: bool = False) -> None:
        self.records = records
        self.silent = silent
        self.asked: list[str] = []

    def __enter__(self) -> NameServer:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()

    def resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self._socket.getsockname()[1]
        return resolver

    def _serve(self) -> None:
        while True:
            data, sender = self._socket.recvfrom(4096)
            if not data:
                return
            question = dns.message.from_wire(data)
            name, kind = question.question[0].name.to_text(), question.question[0].rdtype.name
            self.asked.append(f"{name} {kind}")
            if self.silent:
                continue
            answer = dns.message.make_response(question)
            found = self.records.get((name, kind))
            if found:
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *found))
            else:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self._socket.sendto(answer.to_wire(), sender)


class Places:
    """Resolves names of the test to loopback, each (name, port) to the port of a server; others do not exist."""

    def __init__(self, **ignored: object) -> None:
        self._ports: dict[tuple[str, int], int] = {}
        self.asked: list[tuple[str, int]] = []

    def put(self, name: str, port: int, real_port: int) -> Places:
        self._ports[name, port] = real_port
        return self

    def __call__(self, name: str, port: int) -> Sequence[Address]:
        self.asked.append((name, port))
        if (name, port) not in self._ports:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [Address(socket.AF_INET, "127.0.0.1", ("127.0.0.1", self._ports[name, port]))]


class OneAuthority:
    """Trusts what one authority signs."""

    def __init__(self, authority: trustme.CA) -> None:
        self.authority = authority

    def ssl_context(self, host: str, port: int) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trust(authority: trustme.CA) -> OneAuthority:
    return OneAuthority(authority)


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("smtp.example.test", "mail.example.test", "relay.elsewhere.test")


@pytest.fixture(scope="module")
def ssl_server(certificate: trustme.LeafCert) -> Iterator[MailServer]:
    with MailServer("ssl", {"user": "password"}, certificate=certificate) as server:
        yield server


@pytest.fixture(scope="module")
def starttls_server(certificate: trustme.LeafCert) -> Iterator[MailServer]:
    with MailServer("starttls", {"user": "password"}, certificate=certificate) as server:
        yield server


@pytest.fixture(scope="module")
def plain_server() -> Iterator[MailServer]:
    with MailServer("never") as server:
        yield server


def last(found: Iterator[Found]) -> Found:
    *_, final = found
    assert final.finished
    return final


def filled(found: Found) -> dict[str, str]:
    assert found.best is not None
    return {name: values[0] for name, values in parse_qs(found.best.fill).items()}


def test_it_fills_in_ssl_before_starttls(
    trust: OneAuthority, ssl_server: MailServer, starttls_server: MailServer
) -> None:
    places = Places().put("smtp.example.test", 465, ssl_server.port).put("smtp.example.test", 587, starttls_server.port)
    found = last(search(understood("smtp.example.test"), trust, addresses=places))
    assert filled(found) == {"server_name": "smtp.example.test", "port": "465", "security": "ssl"}
    assert [(each.server.port, each.state) for each in found.answering] == [(465, "ready"), (587, "ready")]


def test_it_fills_in_starttls_where_nothing_else_answers(trust: OneAuthority, starttls_server: MailServer) -> None:
    places = Places().put("smtp.example.test", 587, starttls_server.port)
    found = last(search(understood("smtp.example.test"), trust, addresses=places))
    assert filled(found) == {"server_name": "smtp.example.test", "port": "587", "security": "tls"}
    assert {each.server.port for each in found.silent} == {465, 25}


def test_it_never_offers_never_where_something_encrypted_answers(
    trust: OneAuthority, starttls_server: MailServer, plain_server: MailServer
) -> None:
    places = (
        Places().put("smtp.example.test", 587, starttls_server.port).put("smtp.example.test", 25, plain_server.port)
    )
    found = last(search(understood("smtp.example.test"), trust, addresses=places))
    (plain,) = (each for each in found.answering if each.state == "plain")
    assert plain.server.security is Security.NEVER
    assert not found.offers(plain)
    assert filled(found)["security"] == "tls"


def test_it_offers_never_only_on_a_click_where_nothing_is_encrypted(
    trust: OneAuthority, plain_server: MailServer
) -> None:
    places = Places().put("relay.example.test", 25, plain_server.port)
    found = last(search(understood("relay.example.test"), trust, addresses=places))
    (plain,) = found.answering
    assert found.offers(plain)
    assert found.best is None
    assert "security=never" in plain.fill


def test_a_refused_certificate_is_shown_with_its_reason_and_not_filled_in(
    trust: OneAuthority, plain_server: MailServer
) -> None:
    with MailServer("ssl", authority=trustme.CA()) as stranger:
        places = Places().put("mail.example.test", 465, stranger.port).put("mail.example.test", 25, plain_server.port)
        found = last(search(understood("mail.example.test"), trust, addresses=places))
    refused, plain = found.answering
    assert (refused.state, plain.state) == ("refused", "plain")
    assert refused.result is not None
    assert refused.result.certificate is not None
    assert len(refused.result.certificate.sha256) == 64
    assert "certificate" in refused.reason
    assert found.best is None
    assert not found.offers(plain)


def test_a_valid_certificate_goes_before_a_refused_one(trust: OneAuthority, starttls_server: MailServer) -> None:
    with MailServer("ssl", authority=trustme.CA()) as stranger:
        places = Places().put("mail.example.test", 465, stranger.port)
        places.put("mail.example.test", 587, starttls_server.port)
        found = last(search(understood("mail.example.test"), trust, addresses=places))
    assert [each.state for each in found.answering] == ["ready", "refused"]
    assert filled(found)["security"] == "tls"


def test_a_server_that_lets_people_sign_in_goes_before_one_that_does_not(
    trust: OneAuthority, starttls_server: MailServer, certificate: trustme.LeafCert
) -> None:
    with MailServer("starttls", certificate=certificate) as exchanger:
        places = Places().put("smtp.example.test", 587, starttls_server.port)
        places.put("mail.example.test", 587, exchanger.port)
        question = Question("x", domain="example.test")
        with NameServer({}) as names:
            found = last(search(question, trust, resolver=names.resolver(), addresses=places))
    assert [each.server.name for each in found.answering] == ["smtp.example.test", "mail.example.test"]
    assert found.answering[0].mechanisms
    assert not found.answering[1].mechanisms


def test_no_login_and_no_message_is_ever_sent(trust: OneAuthority) -> None:
    with ScriptedServer(replying()) as server:
        places = Places().put("smtp.example.test", 587, server.port).put("smtp.example.test", 25, server.port)
        last(search(understood("smtp.example.test"), trust, addresses=places))
    assert {line.partition(" ")[0] for line in server.heard if line.isprintable()} <= {"EHLO", "STARTTLS", "QUIT", ""}


def test_a_typed_port_is_tried_in_both_modes(trust: OneAuthority, starttls_server: MailServer) -> None:
    places = Places().put("smtp.example.test", 2525, starttls_server.port)
    found = last(search(understood("smtp.example.test:2525"), trust, addresses=places))
    (only,) = found.answering
    assert (only.server.port, only.server.security) == (2525, Security.TLS)


def test_srv_records_lead_to_ports_nobody_would_guess(
    trust: OneAuthority, ssl_server: MailServer, starttls_server: MailServer
) -> None:
    records = {
        ("_submissions._tcp.example.test.", "SRV"): ["0 1 1465 mail.example.test."],
        ("_submission._tcp.example.test.", "SRV"): ["0 1 1587 mail.example.test."],
    }
    places = (
        Places().put("mail.example.test", 1465, ssl_server.port).put("mail.example.test", 1587, starttls_server.port)
    )
    with NameServer(records) as names:
        found = last(search(understood("bob@example.test"), trust, resolver=names.resolver(), addresses=places))
    assert filled(found) == {"server_name": "mail.example.test", "port": "1465", "security": "ssl"}
    assert found.best is not None
    assert found.best.candidate.why == "SRV record of example.test"
    assert "_submissions._tcp.example.test. SRV" in names.asked


def test_a_server_in_another_domain_that_only_dns_names_is_not_filled_in_without_a_click(
    trust: OneAuthority, ssl_server: MailServer
) -> None:
    records = {("_submissions._tcp.example.test.", "SRV"): ["0 1 465 relay.elsewhere.test."]}
    places = Places().put("relay.elsewhere.test", 465, ssl_server.port)
    with NameServer(records) as names:
        found = last(search(understood("bob@example.test"), trust, resolver=names.resolver(), addresses=places))
    (only,) = found.answering
    assert only.state == "ready"
    assert found.offers(only)
    assert found.best is None


def test_a_mail_address_falls_back_to_the_usual_names(trust: OneAuthority, ssl_server: MailServer) -> None:
    with NameServer({}) as names:
        places = Places().put("mail.example.test", 465, ssl_server.port)
        found = last(search(understood("bob@example.test"), trust, resolver=names.resolver(), addresses=places))
    assert filled(found)["server_name"] == "mail.example.test"


def test_the_mail_exchanger_names_the_provider(trust: OneAuthority) -> None:
    with NameServer({("example.test.", "MX"): ["10 in1-smtp.messagingengine.com."]}) as names:
        found = last(search(understood("bob@example.test"), trust, resolver=names.resolver(), addresses=Places()))
    assert [preset.name for preset in found.presets] == ["Fastmail"]
    assert ("smtp.fastmail.com", 465) in [(each.server.name, each.server.port) for each in found.silent]


def test_a_known_provider_is_offered_before_any_network(trust: OneAuthority) -> None:
    places = Places()
    found = search(understood("bob@gmail.com"), trust, addresses=places)
    assert [preset.name for preset in next(found).presets] == ["Gmail"]
    assert places.asked == []
    assert last(found).presets[0].note


def test_a_provider_is_found_by_its_name() -> None:
    assert [preset.server.name for preset in understood("sendgrid").presets] == ["smtp.sendgrid.net"]


def test_dns_is_asked_for_an_international_domain_as_a_labels() -> None:
    with NameServer({}) as names:
        look_up(understood("bob@bücher.example").domain or "", names.resolver(), 2)
    assert "xn--bcher-kva.example. MX" in names.asked


def test_a_service_that_is_decidedly_not_offered_is_not_tried() -> None:
    with NameServer({("_submission._tcp.example.test.", "SRV"): ["0 0 0 ."]}) as names:
        assert look_up("example.test", names.resolver(), 2).servers == ()


def test_srv_records_go_by_priority_and_weight() -> None:
    given = ["20 0 587 c.example.test.", "10 1 587 b.example.test.", "10 5 587 a.example.test."]
    with NameServer({("_submission._tcp.example.test.", "SRV"): given}) as names:
        servers = look_up("example.test", names.resolver(), 2).servers
    assert [server.name[0] for server in servers] == ["a", "b", "c"]


def test_a_silent_dns_server_is_remarked_and_bounded(trust: OneAuthority) -> None:
    with NameServer({}, silent=True) as names:
        begun = time.monotonic()
        found = last(search(understood("bob@example.test"), trust, resolver=names.resolver(), addresses=Places()))
    assert time.monotonic() - begun < 5
    assert "could not be read" in found.remarks[0]


def test_the_search_ends_in_time_when_every_server_holds_the_line(trust: OneAuthority) -> None:
    with ScriptedServer(lambda talk: talk.hold()) as server:
        places = Places()
        for port in (465, 587, 25):
            places.put("smtp.example.test", port, server.port)
        begun = time.monotonic()
        found = last(search(understood("smtp.example.test"), trust, addresses=places, seconds=2))
        assert time.monotonic() - begun < 2.5
    assert found.best is None
    assert not any(found.offers(each) for each in found.findings)


def test_at_most_twelve_places_are_tried() -> None:
    servers = tuple(Server(f"s{number}.example.test", 465, Security.SSL) for number in range(40))
    candidates = candidates_for(Question("x", domain="example.test"), Records(servers, ("mx.example.test",)))
    assert len(candidates) == MOST_CANDIDATES


@pytest.mark.parametrize("text", ["", "   ", "bob@", "smtp://x.test", "two words", "bob@example..test", "x.test:99999"])
def test_what_cannot_be_looked_for_is_refused_in_words(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        understood(text)
    assert refused.value.field == "find_from"


def test_a_search_is_audited_and_found_with_the_imported_certificate(database: Database) -> None:
    with MailServer("ssl") as server:
        with database.transaction() as session:
            import_certificates(session, command_line(), server.authority_pem(), source="test")
        sought = prepare_search(database, TrustStore(database), command_line(), f"localhost:{server.port}")
        found = last(sought.run())
    assert filled(found) == {"server_name": "localhost", "port": str(server.port), "security": "ssl"}
    with database.reading() as session:
        (line,) = session.scalars(sa.select(AuditLine).where(AuditLine.action == "mail:find"))
    assert line.outcome == "found"
    assert f"localhost:{server.port} ssl" in line.details


def test_an_mx_of_a_similar_name_is_nobodys_customer() -> None:
    assert for_mail_exchangers(["evilgoogle.com"]) == ()
    assert [preset.name for preset in for_mail_exchangers(["aspmx.l.google.com"])] == ["Google Workspace"]


def test_own_addresses_are_matched_exactly() -> None:
    assert [preset.name for preset in for_domain("gmx.de")] == ["GMX"]
    assert for_domain("sub.gmx.de") == ()


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_every_preset_is_complete(preset) -> None:  # type: ignore[no-untyped-def]
    usual = {465: Security.SSL, 587: Security.TLS, 1025: Security.TLS}
    name = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
    assert preset.server.security is usual[preset.server.port]
    assert name.fullmatch(preset.server.name)
    assert all(name.fullmatch(each) for each in (*preset.domains, *preset.mx))
    assert preset.source.startswith("https://")
    assert preset.note.endswith(".")
    assert preset.username
    assert not preset.username.endswith(".")
    assert len(preset.note) < 400


def test_no_two_presets_claim_the_same_name_or_domain() -> None:
    names = [preset.name.casefold() for preset in presets()]
    domains = [domain for preset in presets() for domain in preset.domains]
    assert len(set(names)) == len(names) >= 25
    assert len(set(domains)) == len(domains)
