"""The broker of `gleaner up`: mosquitto with generated configuration, accounts and access rules.

Two listeners. The public one is where people and integrations look: anybody on this machine may
read, and the account `operator` may ask for things; client ids are free there. The other one is
for our services, each with an account of its own whose name is its client id. A client that takes
another's id throws it off, on whichever listener; so the names of these accounts end in a secret.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import random
import secrets
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gleaner.bus.access import Account, access_rules
from gleaner.bus.dial import dial
from gleaner.cli.machine.child import Program
from gleaner.cli.machine.mosquitto import COMMON, listener, password_line
from gleaner.runtime import write_atomically

OPERATOR = "operator"
_LOWEST_PORT = 20000  # below lie the ports of well-known programs


@dataclass(frozen=True, kw_only=True)
class Mosquitto:
    """An installed mosquitto."""

    path: Path
    library_path: str | None = None
    """Where its libraries lie, if they are not the system's."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Name and password of an account, and the file that the password lies in."""

    user: str
    password: str
    password_file: Path


@dataclass(frozen=True)
class Address:
    """Where a listener listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of a broker there."""
        return f"mqtt://{self}"


def find_mosquitto() -> Mosquitto | None:
    """Return the system's mosquitto, or the one that `make setup` fetched, or None."""
    search = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    found = shutil.which("mosquitto", path=search)
    if found:
        return Mosquitto(path=Path(found))
    fetched = Path(sys.prefix, "opt", "usr", "sbin", "mosquitto")
    if not fetched.is_file():
        return None
    libraries = {str(file.parent) for file in Path(sys.prefix, "opt").rglob("lib*.so.*")}
    return Mosquitto(path=fetched, library_path=":".join(sorted(libraries)))


def configuration(public: Address, services: Address) -> str:
    """Return mosquitto.conf; its paths are relative to the broker's directory."""
    return f"""\
# Written by `gleaner up` at every start; changes made here are lost.
{COMMON}
# For people and integrations.
{listener("public", public.port, public.host, anonymous=True)}
# For our own services: the user name is the client id.
{listener("services", services.port, services.host, own_ids=True)}"""


def make_identities(directory: Path, names: Iterable[str]) -> dict[str, Identity]:
    """Return the accounts by name, with new passwords.

    The names stay the same, because the recorder's session at the broker belongs to its name.
    Passwords do not: while our broker is down, somebody else may listen where it was.
    """
    folder = directory / "accounts"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    file = folder / "users.json"
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(file.read_text())
    identities = {}
    for name in names:
        user = known.setdefault(name, f"{name}.{secrets.token_hex(8)}")
        password_file = folder / f"{name}.password"
        identities[name] = _identity(user, password_file)
    write_atomically(file, json.dumps(known))
    return identities


def make_operator(directory: Path) -> Identity:
    """Make the account of the command line: who may read its password may pause and drain."""
    return _identity(OPERATOR, directory / "operator.password")


def _identity(user: str, password_file: Path) -> Identity:
    password = secrets.token_urlsafe(32)
    write_atomically(password_file, password + "\n")
    return Identity(user=user, password=password, password_file=password_file)


def write_files(
    directory: Path,
    *,
    public: Address,
    services: Address,
    operator: Identity,
    accounts: Mapping[Account, Identity],
) -> None:
    """Write everything that mosquitto reads, for it alone to read."""
    user = broker_user()
    renamed = [
        Account(user=identity.user, role=account.role, node=account.node)
        for account, identity in accounts.items()
    ]
    texts = {
        "mosquitto.conf": configuration(public, services),
        "public.passwords": _password_file([operator]),
        "services.passwords": _password_file(accounts.values()),
        "public.acl": access_rules([Account(user=OPERATOR, role="cli")], anonymous_reads=True),
        "services.acl": access_rules(renamed),
    }
    directory.chmod(0o755)
    (directory / "data").mkdir(exist_ok=True)
    (directory / "data").chmod(0o700)
    for name, text in texts.items():
        write_atomically(directory / name, text, 0o640)
        if user:
            os.chown(directory / name, 0, user[1])
    if user:
        for path in (directory / "data", *(directory / "data").iterdir()):
            os.chown(path, *user)


def _password_file(identities: Iterable[Identity]) -> str:
    lines = {password_line(one.user, one.password, os.urandom(12)) for one in identities}
    return "\n".join(sorted(lines)) + "\n"


def program(mosquitto: Mosquitto, directory: Path) -> Program:
    """Return how the broker is started.

    Not as root, and not by mosquitto's own change of user: that would clear the signal which ends
    it with us. Its paths are relative, since that user may not be allowed to enter the folders
    above its own.
    """
    environment = dict(os.environ)
    if mosquitto.library_path:
        environment["LD_LIBRARY_PATH"] = mosquitto.library_path
    return Program(
        name="broker",
        command=(str(mosquitto.path), "-c", "mosquitto.conf"),
        environment=environment,
        directory=directory,
        user=broker_user(),
    )


def broker_user() -> tuple[int, int] | None:
    """Return user and group for the broker: mosquitto's or nobody's for root, else our own."""
    if os.geteuid() != 0:
        return None
    for name in ("mosquitto", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    return None


def is_answered(address: Address, seconds: float = 1.0) -> bool:
    """Whether somebody listens there."""
    try:
        with dial((address.host, address.port), seconds):
            return True
    except OSError:
        return False


def can_listen(host: str, port: int) -> bool:
    """Whether we could listen there."""
    with contextlib.suppress(OSError):
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return True
    return False


def kept_port(directory: Path) -> int:
    """Return the port of the service listener: the one of last time, if it is still free.

    mosquitto ties what it keeps of a session to the port that the session came by.
    """
    file = directory / "accounts" / "port"
    with contextlib.suppress(OSError, ValueError):
        port = int(file.read_text())
        if can_listen("127.0.0.1", port):
            return port
    port = free_port()
    write_atomically(file, f"{port}\n")
    return port


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free right now, and that no client gets as its own.

    A client that calls a port of loopback where nobody listens yet may be given that same port to
    call from, and then talks to itself: a server that starts a moment later finds it taken.
    """
    for _ in range(1000):
        port = random.randrange(_LOWEST_PORT, _first_ephemeral_port())  # noqa: S311 - any port does
        if can_listen(host, port):
            return port
    raise OSError(errno.EADDRINUSE, f"no port of {host} is free")


def _first_ephemeral_port() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        return max(int(text.split()[0]), _LOWEST_PORT + 1000)
    return 32768
