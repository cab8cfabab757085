"""`gleaner prepare`: keys, accounts and certificates of a deployment, made once and kept."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from gleaner.bus.access import service_accounts
from gleaner.bus.signature import load_or_make_key
from gleaner.cli.deployment.certificates import make, take_over
from gleaner.cli.deployment.register import Register, fits, new_entry
from gleaner.cli.deployment.volume import (
    CERTIFICATES,
    Unusable,
    alone,
    check,
    give,
    make_folder,
    place,
    read,
    usable,
    write,
)
from gleaner.cli.machine.broker import OPERATOR
from gleaner.settings.enrolled import KEPT
from gleaner.settings.enrolment import Enrolment, decode, encode

BROKER = "broker"
"""The broker's name among the containers, and its volume's."""
TOKEN = Path("account", "control.token")
"""Below the web service's volume; its `web.control_token_file`."""
SERVICES = tuple(account.user for account in service_accounts())


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a deployment shall be."""

    server: str | None = None
    """The name by which hosts reach it, and the port where that is another."""
    broker: str = BROKER
    """The name by which services do."""
    port: int | None = None
    tls: bool = False
    certificates: Path | None = None
    """Where an administrator may have put a certificate."""


def prepare(directory: Path, wanted: Wanted) -> Iterator[str]:
    """Make what is missing below the folder of all volumes; yield a line for each thing made."""
    for name in (BROKER, *SERVICES):
        check(directory / name)
    broker = directory / BROKER
    if _make_key(directory / "scheduler" / "keys", broker):
        yield "made the key that nodes obey"
    with alone(broker):
        register = read(broker) or Register()
        certificates = wanted.certificates
        # Their certificate has the names that they chose; ours need not be among them.
        with usable():
            is_theirs = wanted.tls and certificates and (certificates / "server.pem").exists()
        near = host_of(wanted.server) if is_theirs and wanted.server else wanted.broker
        register = register.model_copy(
            update={
                "server": wanted.server,
                "near": near,
                "port": wanted.port,
                "tls": wanted.tls,
            }
        )
        if certificates and is_theirs:
            if take_over(certificates, broker):
                yield f"took over the certificate in {certificates}"
        elif wanted.tls:
            names = [host_of(wanted.server)] if wanted.server else []
            if make(directory / OPERATOR, broker, (*names, wanted.broker)):
                yield "made a certificate for the broker"
        for name in SERVICES:
            path = directory / name / KEPT
            register, account = _service(register, name, _enrolment(path))
            account = account.model_copy(update={"ca": authority(broker, register)})
            if place(path, encode(account) + "\n"):
                yield f"made the account of {name}"
        if _make_token(directory / "web" / TOKEN):
            yield "made the token that lets people pause and drain on the page"
        if write(broker, register):
            yield "wrote what the broker reads"


def host_of(server: str) -> str:
    """Return the host of `host` or `host:port`; raise ValueError for anything else."""
    parts = urlsplit(f"mqtt://{server}")
    is_more = parts.path or parts.query or parts.fragment or parts.username is not None
    if not parts.hostname or is_more or parts.port == 0 or " " in server:
        raise ValueError(f"{server!r} is no name of a host (`gpus.example.org`, or with a `:port`)")
    return parts.hostname


def authority(broker: Path, register: Register) -> str | None:
    """Return the certificate authority that hosts have to be told of."""
    path = broker / CERTIFICATES / "ca.pem"
    if not register.tls or not path.is_file():
        return None
    with usable():
        return path.read_text()


def _make_key(keys: Path, broker: Path) -> bool:
    make_folder(keys)
    try:
        with usable():
            signer = load_or_make_key(keys / "scheduler.key")
            for path in keys.iterdir():
                give(path)
    except ValueError as error:
        raise Unusable(str(error)) from error
    return place(broker / "scheduler.pub", signer.public + "\n")


def _make_token(path: Path) -> bool:
    return not path.is_file() and place(path, secrets.token_urlsafe(32) + "\n")


def _enrolment(path: Path) -> Enrolment | None:
    """Return what a service was given before, if it is still of use."""
    if path.is_file():
        with usable(), contextlib.suppress(ValueError):
            return decode(path.read_text())
    return None


def _service(register: Register, name: str, said: Enrolment | None) -> tuple[Register, Enrolment]:
    """Return the register with a service, and its account; both stay as they are if they fit."""
    entry = register.find("service", name)
    client_id = "own" if name == OPERATOR else "user"
    if entry is not None and said is not None and fits(entry, said.user, said.password):
        password = said.password
    else:
        password = secrets.token_urlsafe(32)
        user = entry.user if entry is not None else None
        entry = new_entry("service", name, password, datetime.now(UTC), user=user)
        register = register.with_entry(entry)
    port = register.people_port if name == OPERATOR else register.nodes_port
    account = {"user": entry.user, "password": password, "client_id": client_id}
    url = register.url(register.near, port)
    return register, Enrolment.model_validate(account | {"url": url})
