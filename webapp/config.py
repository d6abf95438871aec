"""Settings from the environment, typed and checked before anything starts."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from webapp.errors import CannotStart

ROOT = Path(__file__).resolve().parent.parent
MOST_PROXY_HOPS = 10
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_SHORTEST_TOKEN = 16
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){0,10}", re.ASCII)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Config:
    """Where this installation lives, what it listens on, and whom it believes.

    instance: folder of the database and the master key, mode 0700.
    database_url: an SQLAlchemy URL for SQLite or PostgreSQL.
    trusted_proxies, proxy_hops: whose word on a visitor's address and on https counts, and how many of them a request
    passes through. allowed_hosts: names under which Keypost answers besides those it knows by itself.
    mail_ports: the only ports that mail connections may go to; None for all. metrics_token: who presents it may read
    /metrics; blank leaves that to programs on this machine.
    """

    instance: Path
    database_url: str
    master_key_file: Path
    host: str = "127.0.0.1"
    port: int = 8000
    trusted_proxies: tuple[Network, ...] = ()
    proxy_hops: int = 1
    allowed_hosts: frozenset[str] = frozenset()
    mail_ports: frozenset[int] | None = None
    metrics_token: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Read the KEYPOST_… variables. Raises CannotStart with the variable's name when one cannot be used."""
        instance = Path(environ.get("KEYPOST_INSTANCE") or ROOT / "instance").absolute()
        proxies = _networks(environ.get("KEYPOST_TRUSTED_PROXIES") or "")
        return cls(
            instance=instance,
            database_url=_database_url(environ.get("KEYPOST_DATABASE_URL") or _sqlite_url(instance / "keypost.db")),
            master_key_file=Path(environ.get("KEYPOST_MASTER_KEY_FILE") or instance / "master.key").absolute(),
            host=environ.get("KEYPOST_HOST") or "127.0.0.1",
            port=parse_port(environ.get("KEYPOST_PORT") or "8000", "KEYPOST_PORT"),
            trusted_proxies=proxies,
            proxy_hops=_hops(environ.get("KEYPOST_PROXY_HOPS") or "", proxies),
            allowed_hosts=_hosts(environ.get("KEYPOST_ALLOWED_HOSTS") or ""),
            mail_ports=_mail_ports(environ.get("KEYPOST_MAIL_PORTS") or ""),
            metrics_token=_metrics_token(environ.get("KEYPOST_METRICS_TOKEN") or ""),
        )


def _metrics_token(text: str) -> str:
    """A token that nobody guesses, and that fits into a header. Raises CannotStart."""
    if text and (len(text) < _SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text):
        raise CannotStart(
            f"KEYPOST_METRICS_TOKEN must have at least {_SHORTEST_TOKEN} letters, digits and signs, without blanks. "
            "Make one with: openssl rand -hex 32"
        )
    return text


def parse_port(text: str, name: str) -> int:
    """A TCP port from 0 (any free one) to 65535. Raises CannotStart naming the setting ``name``."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise CannotStart(f"{name} is “{text}”, which is not a port. Give a whole number from 1 to 65535.")
    return int(text)


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(map(_network, _listed(text)))


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise CannotStart(
            f"KEYPOST_TRUSTED_PROXIES holds “{text[:60]}”, which is neither an address nor a network. Name the proxies "
            "in front of Keypost like 127.0.0.1, 10.0.0.0/24, with commas between."
        ) from None
    if network.prefixlen == 0:
        raise CannotStart(
            f"KEYPOST_TRUSTED_PROXIES holds {text}, which is everybody: anyone could then pretend to come from any "
            "address. Name the proxies alone."
        )
    return network


def _hops(text: str, proxies: tuple[Network, ...]) -> int:
    if not text:
        return 1
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= MOST_PROXY_HOPS:
        raise CannotStart(
            f"KEYPOST_PROXY_HOPS is “{text[:20]}”. Give the number of proxies that every request passes through, from "
            f"1 to {MOST_PROXY_HOPS}."
        )
    if not proxies:
        raise CannotStart("KEYPOST_PROXY_HOPS needs KEYPOST_TRUSTED_PROXIES: name the addresses of the proxies there.")
    return int(text)


def _hosts(text: str) -> frozenset[str]:
    return frozenset(map(_allowed_host, _listed(text)))


def _allowed_host(text: str) -> str:
    name = text.lower().rstrip(".")
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    if not _HOST.fullmatch(name):
        raise CannotStart(
            f"KEYPOST_ALLOWED_HOSTS holds “{text[:60]}”, which is no host's name. Write names alone, without https://, "
            "port or *, with commas between: vault.example.com, vault."
        )
    return name


def _mail_ports(text: str) -> frozenset[int] | None:
    if not text:
        return None
    return frozenset(_mail_port(each) for each in _listed(text))


def _mail_port(text: str) -> int:
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise CannotStart(
            f"KEYPOST_MAIL_PORTS holds “{text[:20]}”, which is not a port. List the ports that mail may use, with "
            "commas between: 25,465,587,2525."
        )
    return int(text)


def _listed(text: str) -> list[str]:
    return [each for each in re.split(r"[,\s]+", text) if each]


def _sqlite_url(path: Path) -> str:
    """The address of a file, whatever characters its path holds."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _database_url(text: str) -> str:
    scheme = text.split(":", 1)[0]
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise CannotStart(
            "KEYPOST_DATABASE_URL is no database's address. "
            "It looks like sqlite:////folder/keypost.db or postgresql://user:password@host:5432/name."
        ) from None
    if scheme == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise CannotStart(
                "KEYPOST_DATABASE_URL names no file, so nothing would be kept. Write sqlite:/// and the file's path."
            )
        return text
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return "postgresql+psycopg:" + text.split(":", 1)[1]
    raise CannotStart(
        "KEYPOST_DATABASE_URL must begin with sqlite:/// or postgresql://; "
        f"it begins with “{scheme[:20]}”. Leave it out to use SQLite in the instance folder."
    )


def prepare_instance(instance: Path) -> None:
    """Make the instance folder, 0700. Raises CannotStart when it cannot be made, written or kept private."""
    try:
        instance.mkdir(mode=0o700, parents=True, exist_ok=True)
        if instance.stat().st_uid == os.geteuid():
            instance.chmod(0o700)
    except OSError as error:
        raise CannotStart(
            f"The folder {instance} cannot be made ({error.strerror}). "
            "Make it yourself, or name another with KEYPOST_INSTANCE."
        ) from None
    if not os.access(instance, os.R_OK | os.W_OK | os.X_OK):
        raise CannotStart(
            f"The folder {instance} is not writable for this user. Do this as the user that runs Keypost, or give the "
            "folder to this one, or name another with KEYPOST_INSTANCE."
        )
    if stat.S_IMODE(instance.stat().st_mode) & 0o077:
        raise CannotStart(f"The folder {instance} is open to other users. Close it with: chmod 700 {instance}")
