"""Certificates trusted for mail connections: parsing, describing, keeping, and the TLS context made of them."""
