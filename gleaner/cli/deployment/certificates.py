"""The broker's certificate: an authority of our own by openssl, or what an administrator has."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import ssl
import subprocess
import tempfile
from pathlib import Path

from gleaner.cli.deployment.volume import CERTIFICATES, Unusable, give, make_folder, place, usable

AUTHORITY_DAYS, SERVER_DAYS = 7300, 3650
RENEWED_SECONDS = 60 * 86400
ALWAYS = ("localhost", "127.0.0.1")
"""Names by which people on the server reach the broker."""

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_REQUEST = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = authority
[name]
CN = Gleaner broker
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def take_over(theirs: Path, broker: Path) -> bool:
    """Copy an administrator's certificate, if there is one; return whether it is another."""
    certificate, key, authority = (theirs / name for name in ("server.pem", "server.key", "ca.pem"))
    try:
        # An empty password, or openssl would ask the terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise Unusable(
            f"{certificate}: is no certificate for {key} ({error.reason or error}); both must be "
            "PEM, the key without a password"
        ) from error
    except OSError as error:
        broken = key if certificate.is_file() else certificate
        raise Unusable(f"{broken}: {error.strerror}") from error
    folder = broker / CERTIFICATES
    with usable():
        if not authority.is_file():
            (folder / "ca.pem").unlink(missing_ok=True)
        is_new = False
        for source in (key, certificate, authority):
            if source.is_file():
                is_new |= place(folder / source.name, source.read_text())
    return is_new


def make(operator: Path, broker: Path, names: tuple[str, ...]) -> bool:
    """Make what is missing, or runs out, or bears other names; return whether anything was made.

    The authority's key stays with the operator: the broker's volume alone cannot make another
    broker that hosts would trust.
    """
    vault, folder = operator / CERTIFICATES, broker / CERTIFICATES
    make_folder(vault)
    make_folder(folder)
    authority = vault / "ca.pem"
    wanted = tuple(dict.fromkeys((*names, *ALWAYS)))
    with usable(), tempfile.TemporaryDirectory(dir=vault) as temporary:
        work = Path(temporary)
        if not (authority.is_file() and (vault / "ca.key").is_file()):
            _make_authority(work, vault)
        place(folder / "ca.pem", authority.read_text())
        if _is_good(folder / "server.pem", folder / "server.key", authority, wanted):
            return False
        _make_server(work, vault, wanted)
        for name in ("server.key", "server.pem"):
            place(folder / name, (work / name).read_text())
    return True


def _make_authority(work: Path, vault: Path) -> None:
    request = work / "request"
    request.write_text(_REQUEST)
    _openssl(
        *("req", "-x509", *_CURVE, "-config", request, "-days", AUTHORITY_DAYS),
        *("-keyout", work / "ca.key", "-out", work / "ca.pem"),
    )
    for name in ("ca.key", "ca.pem"):
        place(vault / name, (work / name).read_text())
        give(vault / name)


def _make_server(work: Path, vault: Path, names: tuple[str, ...]) -> None:
    request, extensions = work / "request", work / "extensions"
    request.write_text(_REQUEST)
    kinds = ", ".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)
    extensions.write_text(_SERVER.format(names=kinds))
    _openssl(
        *("req", "-new", *_CURVE, "-config", request),
        *("-keyout", work / "server.key", "-out", work / "server.csr"),
    )
    _openssl(
        *("x509", "-req", "-in", work / "server.csr", "-days", SERVER_DAYS),
        *("-CA", vault / "ca.pem", "-CAkey", vault / "ca.key"),
        *("-set_serial", f"0x{secrets.token_hex(16)}", "-extfile", extensions),
        *("-out", work / "server.pem"),
    )


def _is_good(certificate: Path, key: Path, authority: Path, names: tuple[str, ...]) -> bool:
    """Whether a certificate is of this authority, lasts, and has all these names."""
    if not (certificate.is_file() and key.is_file()):
        return False
    with contextlib.suppress(Unusable):
        _openssl("verify", "-CAfile", authority, certificate)
        _openssl("x509", "-in", certificate, "-noout", "-checkend", RENEWED_SECONDS)
        for name in names:
            option = "-checkip" if _is_address(name) else "-checkhost"
            said = _openssl("x509", "-in", certificate, "-noout", option, name)
            # It says so, but ends with 0 either way.
            if "NOT match" in said:
                return False
        return True
    return False


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return True
    return False


def _openssl(*arguments: object) -> str:
    try:
        done = subprocess.run(
            ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise Unusable("TLS needs the program openssl, which is not installed") from error
    if done.returncode:
        raise Unusable(f"openssl {arguments[0]}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
