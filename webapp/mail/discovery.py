"""Find the settings of a mail server from its name or from a mail address alone.

What well-known providers publish comes first, without any network. Then the SRV records of RFC 6186 and RFC 8314, the
MX records and the usual names are tried on the usual ports, side by side. Each try is a probe that ends once
encryption is agreed: the transport and the trust store of real mail, no login, no message.
"""

from __future__ import annotations

import contextlib
import contextvars
import ipaddress
import queue
import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import urlencode

import dns.exception
import dns.name
import dns.resolver

from webapp.actor import Actor
from webapp.db import Database
from webapp.errors import Invalid
from webapp.i18n import gettext as _
from webapp.mail import checks
from webapp.mail.address import permitted_port, valid_address, valid_server_name
from webapp.mail.dial import Resolver, system_resolver
from webapp.mail.presets import Preset, for_domain, for_mail_exchangers, for_server, named
from webapp.mail.probe import Attempt, Result, outcome_of
from webapp.mail.transport import Security, Server, Trust
from webapp.mail.wire import Deadline

FIELD: Final = "find_from"
SECONDS: Final = 10.0
MOST_CANDIDATES: Final = 12
_THREADS: Final = 8
_DNS_SECONDS: Final = 2.5
_PROBE_SECONDS: Final = 6.0
_LEAST_PROBE_SECONDS: Final = 0.5
_MARGIN_SECONDS: Final = 0.3
_MOST_RECORDS: Final = 3
_USUAL: Final = ((465, Security.SSL), (587, Security.TLS), (25, Security.TLS))
_SUBMISSION: Final = (("_submissions", Security.SSL), ("_submission", Security.TLS))
_WITH_PORT: Final = re.compile(r"(?P<host>[^:\[\]]+|\[[^\]]+\]):(?P<port>[0-9]{1,5})", re.ASCII)

State = Literal["waiting", "ready", "refused", "plain", "unusable", "silent"]
_ORDER: Final[tuple[State, ...]] = ("ready", "refused", "plain", "unusable", "waiting", "silent")
_BY_SAFETY: Final = (Security.SSL, Security.TLS, Security.NEVER)


@dataclass(frozen=True, slots=True)
class Question:
    """What was typed, understood. domain: whose DNS records say more (A-labels); host, port: a server as typed."""

    text: str
    domain: str | None = None
    host: str | None = None
    port: int | None = None
    presets: tuple[Preset, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One server, port and mode to try. why: who says so, in words.

    vouched: the person, a preset or their own domain names this server. One in another domain that only DNS names is
    never filled in without a click: whoever forges DNS could name theirs (RFC 6186, section 6).
    """

    server: Server
    why: str
    vouched: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """What a candidate answered. result: None while it is being tried, or, once late, when the time was over."""

    candidate: Candidate
    result: Result | None = None
    late: bool = False

    @property
    def state(self) -> State:
        """ready: encrypted, its certificate accepted. refused: its certificate is not. plain: answers without any
        encryption. unusable: answers otherwise. silent: does not answer."""
        if self.result is None:
            return "silent" if self.late else "waiting"
        diagnosis = self.result.diagnosis
        if diagnosis is None:
            return "ready"
        if diagnosis.code == "starttls-not-offered":
            return "plain"
        if diagnosis.code.startswith("certificate-"):
            return "refused"
        return "silent" if diagnosis.stage in ("resolve", "connect") else "unusable"

    @property
    def server(self) -> Server:
        """What to fill in: the candidate's, with Never where the server offers no encryption."""
        server = self.candidate.server
        return replace(server, security=Security.NEVER) if self.state == "plain" else server

    @property
    def fill(self) -> str:
        """The fields of the form, ``name=value&…``."""
        return fields_of(self.server)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """The ways to sign in that it offers."""
        return self.result.negotiated.mechanisms if self.result else ()

    @property
    def reason(self) -> str:
        """Why it cannot be used as it is, in a sentence; empty when it can."""
        if self.result is None:
            return _("No answer in time.") if self.late else ""
        return self.result.diagnosis.cause if self.result.diagnosis else ""

    def as_dict(self) -> dict[str, Any]:
        """JSON of ``keypost mail find``."""
        result = self.result
        return {
            "server": self.server.name,
            "port": self.server.port,
            "security": self.server.security.value,
            "why": self.candidate.why,
            "state": self.state,
            "code": result.diagnosis.code if result and result.diagnosis else None,
            "reason": self.reason or None,
            "mechanisms": list(self.mechanisms),
            "certificate": result.certificate.as_dict() if result and result.certificate else None,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """The state of a search: presets that fit, findings with the safest first, and remarks about DNS."""

    question: Question
    presets: tuple[Preset, ...]
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    finished: bool = False

    @property
    def answering(self) -> tuple[Finding, ...]:
        """Those that answered; the other mode of a port that answered in one is left out."""
        return tuple(
            each for each in self.findings if each.state not in ("silent", "waiting") and not self._beside(each)
        )

    @property
    def silent(self) -> tuple[Finding, ...]:
        return tuple(each for each in self.findings if each.state == "silent")

    @property
    def waiting(self) -> int:
        """How many candidates are still being tried."""
        return sum(each.state == "waiting" for each in self.findings)

    @property
    def best(self) -> Finding | None:
        """What may be filled in without a click: encrypted, its certificate accepted, its name vouched for."""
        first = next((each for each in self.findings if each.state == "ready"), None)
        return first if self.finished and first and first.candidate.vouched else None

    def offers(self, finding: Finding) -> bool:
        """Whether this may be filled in at all: Never is not offered where anything answers encrypted."""
        if finding.state == "plain":
            return not any(each.state in ("ready", "refused") for each in self.findings)
        return finding.state in ("ready", "refused")

    def as_dict(self) -> dict[str, Any]:
        """JSON of ``keypost mail find``."""
        return {
            "looked_for": self.question.text,
            "presets": [
                {
                    "name": preset.name,
                    "server": preset.server.name,
                    "port": preset.server.port,
                    "security": preset.server.security.value,
                    "username": str(preset.username),
                    "note": str(preset.note),
                    "source": preset.source,
                }
                for preset in self.presets
            ],
            "found": [each.as_dict() for each in self.answering],
            "silent": [each.as_dict() for each in self.silent],
            "remarks": list(self.remarks),
        }

    def _beside(self, finding: Finding) -> bool:
        if finding.state != "unusable":
            return False
        place = (finding.server.name, finding.server.port)
        return any(
            (each.server.name, each.server.port) == place and each.state in ("ready", "refused", "plain")
            for each in self.findings
        )


@dataclass(frozen=True, slots=True)
class Records:
    """What DNS says about a domain. servers: of its SRV records; mx: names, the preferred first; all of it unproved."""

    servers: tuple[Server, ...] = ()
    mx: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """A search that may run, and is recorded however it ends."""

    database: Database
    trust: Trust
    actor: Actor
    question: Question
    check_id: int

    def run(self) -> Iterator[Found]:
        """Yields what is known so far each time something answers; the last one is finished. At most SECONDS."""
        found: Found | None = None
        try:
            for found in search(self.question, self.trust, ports=self.database.mail_ports):
                yield found
        finally:
            self._record(found)

    def _record(self, found: Found | None) -> None:
        usable = [_place(each) for each in found.answering if found.offers(each)] if found else []
        outcome = "abandoned" if found is None or not found.finished else "found" if usable else "nothing"
        with self.database.transaction() as session:
            checks.end_search(
                session, self.actor, self.check_id, looked_for=self.question.text, outcome=outcome, found=usable
            )


def prepare_search(database: Database, trust: Trust, actor: Actor, text: str) -> Search:
    """Understand what was typed, and note that a search begins. Raises Invalid, and Refused after too many tests."""
    question = understood(text, database.mail_ports)
    with database.transaction() as session:
        check_id = checks.begin_search(session, actor, question.text)
    return Search(database, trust, actor, question, check_id)


def understood(text: str, ports: frozenset[int] | None = None) -> Question:
    """A mail address, a server name (with a port or without), or the name of a provider. Raises Invalid.

    ports: those that mail may use, None for all.
    """
    text = text.strip()
    if not text:
        raise Invalid(_("Enter a mail address, the name of a mail server, or a provider such as Gmail."), FIELD)
    provider = named(text)
    if provider:
        return Question(provider.name, presets=(provider,))
    if "@" in text:
        address = valid_address(text, ascii_domain=True, field=FIELD)
        domain = address.rpartition("@")[2]
        return Question(text, domain=domain, presets=for_domain(domain))
    typed = _WITH_PORT.fullmatch(text)
    if typed:
        host = valid_server_name(typed["host"], field=FIELD)
        port = permitted_port(typed["port"], ports, field=FIELD)
        return Question(text, host=host, port=port, presets=for_server(host))
    host = valid_server_name(text, field=FIELD)
    is_domain = host.count(".") == 1 and not _is_ip(host)
    return Question(text, domain=host if is_domain else None, host=host, presets=(*for_server(host), *for_domain(host)))


def search(
    question: Question,
    trust: Trust,
    *,
    resolver: dns.resolver.Resolver | None = None,
    addresses: Resolver = system_resolver,
    seconds: float = SECONDS,
    ports: frozenset[int] | None = None,
) -> Iterator[Found]:
    """Try every candidate side by side, for at most ``seconds``; see Search.run()."""
    deadline = Deadline(seconds - _MARGIN_SECONDS)
    found = Found(question, question.presets)
    yield found
    records = Records()
    if question.domain and not question.presets:
        records = look_up(question.domain, resolver, min(_DNS_SECONDS, seconds / 4))
    by_mx = for_mail_exchangers(records.mx)
    candidates = [
        each for each in candidates_for(question, records, by_mx) if ports is None or each.server.port in ports
    ]
    findings = [Finding(candidate) for candidate in candidates]
    found = Found(question, (*question.presets, *by_mx), tuple(findings), records.remarks)
    yield found
    for index, result in _tried(candidates, trust, addresses, deadline):
        findings[index] = Finding(candidates[index], result, late=result is None)
        found = replace(found, findings=_safest_first(findings))
        yield found
    findings = [replace(each, late=True) if each.result is None else each for each in findings]
    yield replace(found, findings=_safest_first(findings), finished=True)


def look_up(domain: str, resolver: dns.resolver.Resolver | None, seconds: float) -> Records:
    """The SRV records for submission (RFC 6186; with TLS, RFC 8314) and the MX records of a domain. Never raises."""
    try:
        resolver = resolver or dns.resolver.Resolver()
    except (dns.exception.DNSException, OSError):
        return Records(
            remarks=(_("This machine names no DNS server, so the records of the domain could not be read."),)
        )
    asked = [(f"{service}._tcp.{domain}.", "SRV") for service, _ in _SUBMISSION] + [(f"{domain}.", "MX")]
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = [each.result() for each in [threads.submit(_answer, resolver, *asking, seconds) for asking in asked]]
    remarks = []
    if any(answer is None for answer in answers):
        remarks.append(_("The DNS records of %(domain)s could not be read in time.", domain=domain))
    servers: list[Server] = []
    for (_rest, security), answer in zip(_SUBMISSION, answers, strict=False):
        records = sorted(answer or (), key=lambda record: (record.priority, -record.weight))
        if any(record.target == dns.name.root for record in records):
            continue
        servers += [
            Server(name, record.port, security)
            for record in records[:_MOST_RECORDS]
            if record.port and (name := _host(record.target))
        ]
    preferred = sorted(answers[-1] or (), key=lambda record: record.preference)
    exchangers = tuple(name for record in preferred[:_MOST_RECORDS] if (name := _host(record.exchange)))
    return Records(tuple(servers), exchangers, tuple(remarks))


def candidates_for(question: Question, records: Records, by_mx: Iterable[Preset] = ()) -> list[Candidate]:
    """What to try, the most promising first, at most MOST_CANDIDATES. Each place once: the first reason stands."""
    tries = [*_typed(question), *_published((*question.presets, *by_mx))]
    if question.domain and not question.presets:
        tries += _by_domain(question.domain, records, hosted=bool(tuple(by_mx)))
    kept: dict[tuple[str, int, Security], Candidate] = {}
    for each in tries:
        kept.setdefault((each.server.name, each.server.port, each.server.security), each)
    return list(kept.values())[:MOST_CANDIDATES]


def fields_of(server: Server) -> str:
    """The fields of the form that lead to this server, ``name=value&…``."""
    return urlencode({"server_name": server.name, "security": server.security.value, "port": server.port})


def _typed(question: Question) -> Iterator[Candidate]:
    if question.host is None or (question.presets and question.port is None):
        return
    if question.port is not None:
        for security in (Security.SSL, Security.TLS):
            yield Candidate(Server(question.host, question.port, security), _("As you typed it"))
        return
    for port, security in _USUAL:
        yield Candidate(Server(question.host, port, security), _("As you typed it"))


def _published(presets: Iterable[Preset]) -> Iterator[Candidate]:
    usual = {465: (587, Security.TLS), 587: (465, Security.SSL)}
    for preset in presets:
        yield Candidate(preset.server, _("Published by %(name)s", name=preset.name))
        if preset.server.port in usual:
            port, security = usual[preset.server.port]
            yield Candidate(
                Server(preset.server.name, port, security), _("The other usual port at %(name)s", name=preset.name)
            )


def _by_domain(domain: str, records: Records, *, hosted: bool) -> Iterator[Candidate]:
    for server in records.servers:
        yield Candidate(server, _("SRV record of %(domain)s", domain=domain), vouched=_is_within(server.name, domain))
    names = [(f"smtp.{domain}", _("A usual name")), (f"mail.{domain}", _("A usual name"))]
    if records.mx and not hosted:
        names.append((records.mx[0], _("MX record of %(domain)s", domain=domain)))
    for port, security in _USUAL:
        for name, why in names:
            if port != 25 or why.startswith("MX"):
                yield Candidate(Server(name, port, security), why, vouched=_is_within(name, domain))


def _tried(
    candidates: list[Candidate], trust: Trust, addresses: Resolver, deadline: Deadline
) -> Iterator[tuple[int, Result | None]]:
    """Probe all of them in a few threads; yields each index with its result, None when there was no time for it."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[int, Result | None]] = queue.SimpleQueue()
    for index in range(len(candidates)):
        waiting.put(index)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                index = waiting.get_nowait()
                results.put((index, _try(candidates[index].server, trust, addresses, deadline)))

    for _each in range(min(_THREADS, len(candidates))):
        # Each in a copy of this context, so that what it finds is worded for the reader who asked.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(work,), name="find mail settings", daemon=True).start()
    with contextlib.suppress(queue.Empty, TimeoutError):
        for _candidate in candidates:
            yield results.get(timeout=deadline.remaining())


def _try(server: Server, trust: Trust, addresses: Resolver, deadline: Deadline) -> Result | None:
    try:
        left = deadline.remaining()
    except TimeoutError:
        return None
    if left < _LEAST_PROBE_SECONDS:
        return None
    attempt = Attempt(server, login=None, sender="", timeout=min(_PROBE_SECONDS, left), last_stage="tls")
    return outcome_of(attempt, trust, resolver=addresses)


def _answer(resolver: dns.resolver.Resolver, name: str, kind: str, seconds: float) -> list[Any] | None:
    """The records, none when there are none, None when DNS did not say."""
    try:
        return list(resolver.resolve(name, kind, lifetime=seconds, search=False))
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
        return []
    except (dns.exception.DNSException, OSError, UnicodeError):
        return None


def _host(target: dns.name.Name) -> str:
    """A name out of a DNS answer; empty when it is none that a server can have."""
    try:
        return valid_server_name(target.to_text(omit_final_dot=True)) if target != dns.name.root else ""
    except Invalid:
        return ""


def _safest_first(findings: list[Finding]) -> tuple[Finding, ...]:
    def rank(place: tuple[int, Finding]) -> tuple[int, int, bool, bool, int]:
        index, each = place
        # Port 25 takes mail from other servers; who signs in there is the exception.
        return (
            _ORDER.index(each.state),
            _BY_SAFETY.index(each.server.security),
            not each.mechanisms,
            each.server.port == 25,
            index,
        )

    return tuple(each for _, each in sorted(enumerate(findings), key=rank))


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _is_ip(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _place(finding: Finding) -> str:
    return f"{finding.server.name}:{finding.server.port} {finding.server.security.value}"
