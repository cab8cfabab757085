"""Who may connect to the broker of a deployment, and the files that say so to mosquitto."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from gleaner.bus.access import Account, access_rules, node_accounts, service_accounts
from gleaner.cli.machine.broker import OPERATOR
from gleaner.cli.machine.mosquitto import is_password, listener, password_hash

VERSION = 1
"""Of `accounts.json`; a newer one is left alone."""
PORT, TLS_PORT = 1883, 8883

Kind = Literal["service", "node", "reader"]


class Entry(BaseModel):
    """Somebody who may connect."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Kind
    name: str
    user: str
    key: str
    """What mosquitto keeps of the password."""
    since: AwareDatetime


class Register(BaseModel):
    """Everybody who may connect, and how hosts reach the broker."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    version: Literal[1] = 1
    server: str | None = None
    """The name, and the port where it is not the usual one."""
    near: str = "broker"
    """By which name the services reach the broker."""
    tls: bool = False
    port: int | None = None
    """Of the listener for services and nodes, if it is not the usual one."""
    entries: tuple[Entry, ...] = ()

    def find(self, kind: Kind, name: str) -> Entry | None:
        """Return an entry by its name."""
        same = (entry for entry in self.entries if (entry.kind, entry.name) == (kind, name))
        return next(same, None)

    def with_entry(self, entry: Entry) -> Register:
        """Return a register where this entry stands for its name."""
        entries = [*self.without(entry.kind, entry.name).entries, entry]
        ordered = sorted(entries, key=lambda one: (one.kind, one.name))
        return self.model_copy(update={"entries": tuple(ordered)})

    def without(self, kind: Kind, name: str) -> Register:
        """Return a register without somebody."""
        kept = [entry for entry in self.entries if (entry.kind, entry.name) != (kind, name)]
        return self.model_copy(update={"entries": tuple(kept)})

    @property
    def nodes_port(self) -> int:
        """Where services and nodes connect."""
        return self.port or (TLS_PORT if self.tls else PORT)

    @property
    def people_port(self) -> int:
        """Where people and integrations connect."""
        return self.nodes_port + 1

    def url(self, server: str, port: int) -> str:
        """Return the URL of a listener at a server, which may name a port of its own."""
        scheme = "mqtts" if self.tls else "mqtt"
        has_port = ":" in server.rpartition("]")[2]
        return f"{scheme}://{server}" if has_port else f"{scheme}://{server}:{port}"


def new_entry(
    kind: Kind, name: str, password: str, at: datetime, *, user: str | None = None
) -> Entry:
    """Return an entry; the user name of an account whose client id is its name ends in a secret.

    On the listener for people client ids are free, and one who takes another's throws it off. So
    nobody there may know the ids of services and nodes. The names stay when a password is new: a
    session at the broker belongs to its name.
    """
    user = user or (name if _is_person(kind, name) else f"{name}.{secrets.token_hex(8)}")
    return Entry(kind=kind, name=name, user=user, key=password_hash(password), since=at)


def fits(entry: Entry | None, user: str, password: str) -> bool:
    """Whether somebody with this name and password is let in."""
    return entry is not None and entry.user == user and is_password(password, entry.key)


def accounts_of(entry: Entry) -> list[Account]:
    """Return the accounts that an entry stands for."""
    match entry.kind:
        case "node":
            return node_accounts(entry.name, entry.user)
        case "reader":
            return [Account(user=entry.user, role="reader")]
        case "service":
            roles = {account.user: account.role for account in service_accounts()}
            return [Account(user=entry.user, role=roles[entry.name])]


def broker_files(register: Register, certificate: str = "") -> dict[str, str]:
    """Return what mosquitto reads: file name to text; `generation` changes when it has to look.

    Its first word is about the accounts, which a running broker reads again, its second one about
    the listeners and their certificate, which it does not.
    """
    people = [one for one in register.entries if _is_person(one.kind, one.name)]
    others = [one for one in register.entries if not _is_person(one.kind, one.name)]
    files = {
        "services.passwords": _passwords(others),
        "services.acl": _rules(others),
        "people.passwords": _passwords(people),
        "people.acl": _rules(people),
    }
    listeners = _listeners(register)
    digests = [_digest(*files.values()), _digest(listeners, certificate)]
    return {**files, "listeners.conf": listeners, "generation": " ".join(digests) + "\n"}


def _listeners(register: Register) -> str:
    folder = "certificates" if register.tls else None
    nodes = listener("services", register.nodes_port, own_ids=True, certificate=folder)
    people = listener("people", register.people_port, certificate=folder)
    return (
        "# Written by `gleaner prepare`; changes made here are lost.\n\n"
        f"# For services and nodes: the user name is the client id.\n{nodes}\n"
        f"# For people and integrations.\n{people}"
    )


def _is_person(kind: Kind, name: str) -> bool:
    return kind == "reader" or (kind, name) == ("service", OPERATOR)


def _passwords(entries: Iterable[Entry]) -> str:
    lines = [f"{account.user}:{entry.key}" for entry in entries for account in accounts_of(entry)]
    return "\n".join(lines) + "\n"


def _rules(entries: Iterable[Entry]) -> str:
    return access_rules(account for entry in entries for account in accounts_of(entry))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
