"""What is said of a broker whose certificate is not believed."""

from __future__ import annotations

import ssl

import pytest

from gleaner.bus.trust import reason


def refused(code: int, text: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, text
    return error


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "is the clock right, here and on the server?"),
        (10, "has expired"),
        (19, "of an authority that we do not know"),
        (20, "of an authority that we do not know"),
        (62, "is for another name: the message"),
        (1, "is no good: the message"),
    ],
)
def test_a_certificate_is_refused_in_words(code: int, words: str) -> None:
    assert words in reason(refused(code, "the message"))


def test_who_speaks_no_tls_is_told_apart() -> None:
    assert "does it speak TLS there?" in reason(ssl.SSLError(1, "wrong version number"))


def test_other_reasons_are_the_systems() -> None:
    assert reason(OSError(111, "Connection refused")) == "Connection refused"
    assert reason(ValueError("Invalid host.")) == "Invalid host."
