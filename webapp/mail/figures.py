"""Figures for Prometheus, read from the database at each question; no name and no address is among them."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from webapp.config import ROOT
from webapp.db import Session
from webapp.mail import reliance
from webapp.outbox import ledger
from webapp.outbox.day import Hour, last_day
from webapp.outbox.messages import State
from webapp.outbox.standing import Standing, oldest_wait, standing
from webapp.trust import store

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True, eq=False)
class Figures(Collector):
    """What is told. certificates: seconds until each ends, by what it is and the start of its SHA-256."""

    counts: dict[State, int]
    oldest: timedelta
    day: list[Hour]
    standing: Standing
    certificates: dict[tuple[str, str], float]

    def collect(self) -> Iterable[Metric]:
        """One family for each figure."""
        yield InfoMetricFamily("keypost_build", "The version that runs.", {"version": _version()})
        yield _by("keypost_messages", "Messages in the outbox.", "state", {s.value: n for s, n in self.counts.items()})
        yield GaugeMetricFamily(
            "keypost_oldest_waiting_seconds",
            "How long the message that has waited longest has waited.",
            value=self.oldest.total_seconds(),
        )
        ended = {"accepted": sum(h.accepted for h in self.day), "failed": sum(h.failed for h in self.day)}
        yield _by("keypost_messages_last_day", "Messages that ended within the last 24 hours.", "outcome", ended)
        pause = self.standing.pause
        yield _by(
            "keypost_delivery_paused",
            "Whether delivery is paused, and why.",
            "code",
            {pause.code if pause else "": pause is not None},
        )
        yield GaugeMetricFamily(
            "keypost_workers_alive", "Workers heard of within the last minute.", value=self.standing.alive
        )
        yield self._certificates()

    def _certificates(self) -> Metric:
        family = GaugeMetricFamily(
            "keypost_certificate_expiry_seconds",
            "Seconds until a certificate that mail relies on ends; less than nothing once it has.",
            labels=["of", "sha256"],
        )
        for labels, seconds in self.certificates.items():
            family.add_metric(labels, seconds)
        return family


def read(session: Session) -> Figures:
    """The figures as they are now."""
    now, own = session.now(), reliance.own_certificate(session)
    certificates = {
        ("trusted", each.sha256[:16]): (each.description.not_after - now).total_seconds()
        for each in store.trusted(session)
    }
    if own is not None:
        certificates["server", own.description.fingerprint.replace(":", "").lower()[:16]] = (
            own.description.not_after - now
        ).total_seconds()
    return Figures(ledger.counts(session), oldest_wait(session), last_day(session), standing(session), certificates)


def exposition(figures: Figures) -> bytes:
    """In the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    return generate_latest(registry)


def _by(name: str, told: str, label: str, values: dict[str, int] | dict[str, bool]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=[label])
    for value, number in values.items():
        family.add_metric([value], float(number))
    return family


@functools.cache
def _version() -> str:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
