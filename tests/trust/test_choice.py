"""Which presented certificate is offered for import."""

from __future__ import annotations

import pytest

from tests.trust.authorities import issue
from webapp.trust.certificates import CertificateRefused
from webapp.trust.choice import choose

ROOT = issue("root", authority=True)
MIDDLE = issue("middle", by=ROOT, authority=True)
LEAF = issue("mail", "mail.test", by=MIDDLE)


def test_the_root_is_chosen_when_it_is_presented() -> None:
    choice = choose([LEAF.der, ROOT.der, MIDDLE.der], "mail.test")
    assert (choice.certificate, choice.pinned) == (ROOT.certificate, False)


def test_the_leaf_is_chosen_when_the_root_is_missing() -> None:
    assert choose([LEAF.der, MIDDLE.der], "mail.test").certificate == LEAF.certificate


def test_a_root_that_vouches_for_somebody_else_is_not_chosen() -> None:
    stranger = issue("root", authority=True)
    assert choose([LEAF.der, MIDDLE.der, stranger.der], "mail.test").certificate == LEAF.certificate


def test_a_leaf_that_signed_another_is_no_root() -> None:
    signer = issue("signer", "signer.test")
    leaf = issue("mail", "mail.test", by=signer)
    assert choose([leaf.der, signer.der], "mail.test").certificate == leaf.certificate


def test_a_self_signed_leaf_is_chosen_itself() -> None:
    leaf = issue("mail", "mail.test")
    assert choose([leaf.der, leaf.der], "mail.test").certificate == leaf.certificate


def test_another_name_pins_the_leaf() -> None:
    choice = choose([LEAF.der, MIDDLE.der, ROOT.der], "other.test")
    assert (choice.certificate, choice.pinned) == (LEAF.certificate, True)


def test_what_cannot_be_read_is_not_offered() -> None:
    with pytest.raises(CertificateRefused):
        choose([b"junk"], "mail.test")
    with pytest.raises(ValueError, match="no certificate"):
        choose([], "mail.test")
