"""Which broker is believed to be ours, and what is wrong with one that is not."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

# OpenSSL's X509_V_ERR_…: what its texts mean for whoever has to do something.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)
_OTHER_NAME = (62, 64)


def trust(
    *, ca_file: str | None, ca: str | None, certificate_file: str | None, key_file: str | None
) -> ssl.SSLContext:
    """Return what a broker must prove: its name, by an authority that we know."""
    context = ssl.create_default_context(cafile=ca_file, cadata=None if ca_file else ca)
    if certificate_file:
        context.load_cert_chain(certificate_file, key_file)
    return context


def reason(error: OSError | ValueError) -> str:
    """Say why a broker could not be reached, in words for whoever can change that."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
        return f"no encrypted connection comes about ({error.strerror}); does it speak TLS there?"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return (error.strerror if isinstance(error, OSError) else None) or str(error)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    match error.verify_code:
        case code if code == _NOT_YET_VALID:
            return (
                f"its certificate is not yet valid, says our clock ({now}); is the clock right, "
                "here and on the server?"
            )
        case code if code == _EXPIRED:
            return f"its certificate has expired, says our clock ({now}); is the clock right?"
        case code if code in _UNKNOWN_AUTHORITY:
            return (
                "its certificate is of an authority that we do not know: is it the right broker, "
                "and is our enrolment (or bus.ca_file) still of use?"
            )
        case code if code in _OTHER_NAME:
            return f"its certificate is for another name: {error.verify_message}"
    return f"its certificate is no good: {error.verify_message}"
