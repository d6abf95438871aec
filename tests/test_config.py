"""Settings are understood, or refused in a sentence that names the one at fault."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from webapp.config import ROOT, Config, prepare_instance
from webapp.errors import CannotStart


def test_without_settings_everything_lives_in_the_instance_folder() -> None:
    config = Config.from_environment({})
    assert config.instance == ROOT / "instance"
    assert make_url(config.database_url).database == str(ROOT / "instance" / "keypost.db")
    assert config.master_key_file == ROOT / "instance" / "master.key"
    assert (config.host, config.port) == ("127.0.0.1", 8000)


def test_empty_settings_count_as_none() -> None:
    names = ("INSTANCE", "DATABASE_URL", "MASTER_KEY_FILE", "HOST", "PORT")
    assert Config.from_environment({f"KEYPOST_{name}": "" for name in names}) == Config.from_environment({})


@pytest.mark.parametrize("name", ["a folder", "what?", "50%41", "a#b", "ümlaut", "a:b@c"])
def test_the_instance_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    config = Config.from_environment({"KEYPOST_INSTANCE": str(tmp_path / name)})
    assert make_url(config.database_url).database == str(tmp_path / name / "keypost.db")


@pytest.mark.parametrize("port", ["0", "1", "8000", "65535"])
def test_it_takes_a_port(port: str) -> None:
    assert Config.from_environment({"KEYPOST_PORT": port}).port == int(port)


@pytest.mark.parametrize("port", ["65536", "-1", "80 ", "1_0", "٨٠", "http", "9" * 5000, "8.0", "0x50"])
def test_it_refuses_what_is_no_port(port: str) -> None:
    with pytest.raises(CannotStart, match=r"^KEYPOST_PORT is"):
        Config.from_environment({"KEYPOST_PORT": port})


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_postgresql_uses_the_one_driver(scheme: str) -> None:
    config = Config.from_environment({"KEYPOST_DATABASE_URL": f"{scheme}://keypost:pw@db:5433/keypost"})
    url = make_url(config.database_url)
    assert (url.drivername, url.password, url.port) == ("postgresql+psycopg", "pw", 5433)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/d",
        "postgresql+asyncpg://h/d",
        "nonsense",
        "secret@h/d",
        "postgresql://u:secret@h:port/d",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+pysqlcipher://:secret@/x",
    ],
)
def test_it_refuses_another_database_without_quoting_it(url: str) -> None:
    with pytest.raises(CannotStart, match=r"^KEYPOST_DATABASE_URL") as refused:
        Config.from_environment({"KEYPOST_DATABASE_URL": url})
    assert "secret" not in str(refused.value)


def test_the_instance_folder_is_made_private(tmp_path: Path) -> None:
    prepare_instance(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_an_open_instance_folder_of_ours_is_closed(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir(mode=0o755)
    prepare_instance(tmp_path / "instance")
    assert (tmp_path / "instance").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="cannot be made"):
        prepare_instance(tmp_path / where)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_that_is_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    os.chown(tmp_path / "instance", 65534, 65534)
    (tmp_path / "instance").chmod(0o755)
    with pytest.raises(CannotStart, match="chmod 700"):
        prepare_instance(tmp_path / "instance")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir(mode=0o500)
    tmp_path.chmod(0o500)
    with pytest.raises(CannotStart, match="cannot be made"):
        prepare_instance(tmp_path / "another")
    tmp_path.chmod(0o700)


def test_proxies_hosts_and_mail_ports_are_lists() -> None:
    config = Config.from_environment(
        {
            "KEYPOST_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/24 fd00::/8",
            "KEYPOST_PROXY_HOPS": "2",
            "KEYPOST_ALLOWED_HOSTS": "Vault.Example.com., vault [::1]",
            "KEYPOST_MAIL_PORTS": "25,465, 587",
        }
    )
    assert [str(each) for each in config.trusted_proxies] == ["127.0.0.1/32", "10.0.0.0/24", "fd00::/8"]
    assert config.proxy_hops == 2
    assert config.allowed_hosts == {"vault.example.com", "vault", "::1"}
    assert config.mail_ports == {25, 465, 587}


def test_nobody_is_believed_and_every_mail_port_is_open_unless_something_is_said() -> None:
    config = Config.from_environment({})
    assert (config.trusted_proxies, config.allowed_hosts, config.mail_ports) == ((), frozenset(), None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEYPOST_TRUSTED_PROXIES", "proxy.example.com"),
        ("KEYPOST_TRUSTED_PROXIES", "10.0.0.1/24"),
        ("KEYPOST_TRUSTED_PROXIES", "10.0.0.300"),
        ("KEYPOST_TRUSTED_PROXIES", "*"),
        ("KEYPOST_TRUSTED_PROXIES", "0.0.0.0/0"),
        ("KEYPOST_TRUSTED_PROXIES", "10.0.0.1, ::/0"),
        ("KEYPOST_PROXY_HOPS", "1"),
        ("KEYPOST_PROXY_HOPS", "0"),
        ("KEYPOST_PROXY_HOPS", "11"),
        ("KEYPOST_PROXY_HOPS", "two"),
        ("KEYPOST_ALLOWED_HOSTS", "https://vault.example.com"),
        ("KEYPOST_ALLOWED_HOSTS", "vault.example.com:8000"),
        ("KEYPOST_ALLOWED_HOSTS", "*"),
        ("KEYPOST_ALLOWED_HOSTS", "a..b"),
        ("KEYPOST_MAIL_PORTS", "0"),
        ("KEYPOST_MAIL_PORTS", "25,smtp"),
        ("KEYPOST_MAIL_PORTS", "65536"),
        ("KEYPOST_MAIL_PORTS", "٢٥"),
    ],
)
def test_what_would_not_protect_as_written_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(CannotStart, match=f"^{name} "):
        Config.from_environment({name: value})
