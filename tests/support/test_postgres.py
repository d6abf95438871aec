import psycopg
import pytest
import sqlalchemy as sa

from tests.support.postgres import fresh_database


def connect(url: sa.URL) -> psycopg.Connection:
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))


def test_each_test_has_a_database_of_its_own(postgres_server: sa.URL, postgres_url: str) -> None:
    with connect(sa.make_url(postgres_url)) as connection:
        connection.execute("CREATE TABLE mine (id integer)")
    with fresh_database(postgres_server) as other, connect(other) as connection:
        assert connection.execute("SELECT to_regclass('mine')").fetchone() == (None,)


def test_a_database_goes_away_even_while_somebody_is_connected(postgres_server: sa.URL) -> None:
    with fresh_database(postgres_server) as url:
        left_behind = connect(url)
    with pytest.raises(psycopg.OperationalError), left_behind:
        left_behind.execute("SELECT 1")
