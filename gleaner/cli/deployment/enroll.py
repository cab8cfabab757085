"""`gleaner enroll`: who may join a deployment, changed while its broker runs."""

from __future__ import annotations

import contextlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from gleaner.bus.connection import Connection
from gleaner.cli.deployment.forget import forget
from gleaner.cli.deployment.prepare import BROKER, authority, host_of
from gleaner.cli.deployment.register import (
    Entry,
    Kind,
    Register,
    accounts_of,
    fits,
    new_entry,
)
from gleaner.cli.deployment.volume import Unusable, alone, is_heard, place, read, usable, write
from gleaner.settings.enrolment import Enrolment, decode, encode

NAME = re.compile(r"[a-z0-9_-]{1,63}")
NAME_RULE = "a name has 1 to 63 of a-z, 0-9, _ and -"

Change = Literal["new", "renew", "remove"]


class Refused(Exception):
    """What was asked for does not fit who is enrolled; the text says what would."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of it."""

    entry: Entry
    enrolment: Enrolment
    """What its holder needs; shown once."""
    is_known: bool
    """Whether the broker runs and knows it already."""


def enroll(
    directory: Path, kind: Kind, name: str, change: Change, server: str | None = None
) -> Done:
    """Let somebody in; `renew`: with a new password, and the old one is worth nothing."""
    broker = directory / BROKER
    with alone(broker):
        register = _prepared(broker)
        found = register.find(kind, name)
        _check(kind, name, found, change)
        password = secrets.token_urlsafe(32)
        user = found.user if found is not None else None
        entry = new_entry(kind, name, password, datetime.now(UTC), user=user)
        enrolment = _enrolment(broker, register, entry, password, server)
        write(broker, register.with_entry(entry))
    return Done(entry=entry, enrolment=enrolment, is_known=is_heard(broker))


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What came of letting somebody in no longer."""

    is_known: bool
    """Whether the broker runs and knows it already."""
    is_forgotten: bool
    """Whether nothing that it said is shown any more."""


def remove(directory: Path, kind: Kind, name: str) -> Removed:
    """Let somebody in no longer, and take what a node has said off the bus."""
    broker = directory / BROKER
    is_forgotten = kind == "reader"
    with alone(broker):
        register = _prepared(broker)
        found = register.find(kind, name)
        _check(kind, name, found, "remove")
        if found is not None and kind == "node":
            is_forgotten = _forget(broker, register, found)
        write(broker, register.without(kind, name))
    return Removed(is_known=is_heard(broker), is_forgotten=is_forgotten)


def _forget(broker: Path, register: Register, entry: Entry) -> bool:
    """Speak for the node one last time: nobody else may clear its facts."""
    password = secrets.token_urlsafe(32)
    ours = new_entry("node", entry.name, password, entry.since, user=entry.user)
    write(broker, register.with_entry(ours))
    if not is_heard(broker):
        return False
    whole, *parts = (
        Connection(
            url=register.url(register.near, register.nodes_port),
            user=account.user,
            password=password,
            ca=authority(broker, register),
        )
        for account in accounts_of(entry)
    )
    return forget(entry.name, whole, *parts)


def enrolled(directory: Path) -> list[Entry]:
    """Return the nodes and readers that may connect."""
    return [entry for entry in _prepared(directory / BROKER).entries if entry.kind != "service"]


def enroll_to_file(directory: Path, node: str, file: Path, server: str | None) -> bool:
    """Enroll a node, or keep it enrolled, by a text in a file; return whether that is a new one."""
    found = _prepared(directory / BROKER).find("node", node)
    if file.is_file():
        with usable(), contextlib.suppress(ValueError):
            said = decode(file.read_text())
            if said.node == node and fits(found, said.user, said.password):
                return False
    done = enroll(directory, "node", node, "new" if found is None else "renew", server)
    place(file, encode(done.enrolment) + "\n")
    return True


def _prepared(broker: Path) -> Register:
    register = read(broker)
    if register is None:
        raise Unusable(f"{broker}: is not prepared yet; `gleaner prepare` does that")
    return register


def _check(kind: Kind, name: str, found: Entry | None, change: Change) -> None:
    if found is None and change != "new":
        raise Refused(f"no {kind} {name} is enrolled; `gleaner enroll --list` shows who is")
    if found is not None and change == "new":
        raise Refused(
            f"{name} is enrolled since {found.since:%Y-%m-%d %H:%M} UTC; --renew gives it a new "
            "password (the old one stops working at once), --remove ends it"
        )


def _enrolment(
    broker: Path, register: Register, entry: Entry, password: str, server: str | None
) -> Enrolment:
    """Return what its holder is told; raise Refused where nobody said how we are reached."""
    is_node = entry.kind == "node"
    # The listener for people is published on the server itself only.
    server = server or register.server if is_node else server or "127.0.0.1"
    if server is None:
        raise Refused(
            "by which name do hosts reach this server? Set GLEANER_SERVER in .env and start "
            "again, or say it here with --server"
        )
    host_of(server)
    keys: tuple[str, ...] = ()
    if is_node:
        with usable():
            keys = ((broker / "scheduler.pub").read_text().strip(),)
    return Enrolment(
        url=register.url(server, register.nodes_port if is_node else register.people_port),
        user=entry.user,
        password=password,
        client_id="user" if is_node else "own",
        node=entry.name if is_node else None,
        scheduler_keys=keys,
        ca=authority(broker, register),
    )
