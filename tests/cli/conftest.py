"""A TLS server for the tests here."""

from tests.trust.tls_server import serve

__all__ = ["serve"]
