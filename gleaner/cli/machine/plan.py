"""What `gleaner up` starts: which broker, which services, and what each of them is told."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gleaner.bus.access import Account, Role
from gleaner.bus.connection import Connection
from gleaner.cli.machine.broker import Address, Identity
from gleaner.cli.machine.child import Program
from gleaner.cli.settings import Settings
from gleaner.settings import BusSettings

SERVICES: tuple[Role, ...] = ("scheduler", "recorder", "web")
CLEANING_UP_SECONDS = 10.0
"""What a node takes to end its runs, beyond their own grace."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Whose broker is used, and why, if that is not what the configuration says."""

    own: bool
    moved: str | None = None
    """Why our own cannot be where `bus.url` is."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node process of this machine."""

    id: str
    config: Path | None
    variables: Mapping[str, str]
    count: int = 1
    """How many (simulated) nodes the process has."""


def choose_broker(bus: BusSettings, *, is_answered: bool) -> Choice:
    """Decide between a broker that is there and one of our own."""
    connection = Connection(url=bus.url)
    host, port = connection.address
    has_account = bus.user is not None or bus.certificate_file is not None
    if has_account and (is_answered or not is_loopback(host)):
        return Choice(own=False)
    if not is_loopback(host):
        return Choice(own=True, moved=f"no account is configured for the broker at {host}:{port}")
    if is_answered:
        return Choice(
            own=True,
            moved=f"{host}:{port} is taken by another program, for which no account is configured",
        )
    if connection.is_tls:
        return Choice(own=True, moved="our own broker speaks no TLS")
    return Choice(own=True)


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def accounts(nodes: list[Node], identities: Mapping[str, Identity]) -> dict[Account, Identity]:
    """Return every account of the service listener."""
    found: dict[Account, Identity] = {}
    for node in nodes:
        base = identities[node.id]
        if node.count == 1:
            found[Account(user=base.user, role="node", node=node.id)] = base
            continue
        for number in range(1, node.count + 1):
            user = f"{base.user}-{number}"
            account = Account(user=user, role="node", node=f"{node.id}-{number}")
            found[account] = Identity(
                user=user, password=base.password, password_file=base.password_file
            )
    for role in SERVICES:
        found[Account(user=identities[role].user, role=role)] = identities[role]
    return found


def own_bus(services: Address, identity: Identity) -> dict[str, str]:
    """Return the variables by which a service finds our own broker."""
    return {
        "GLEANER_BUS__URL": services.url,
        "GLEANER_BUS__USER": identity.user,
        "GLEANER_BUS__PASSWORD_FILE": str(identity.password_file),
        "GLEANER_BUS__CLIENT_ID": "user",
    }


def their_bus() -> dict[str, str]:
    """Return the variables for a broker that is there: all services share the one account.

    So its name can be nobody's client id, whatever is configured: they would throw each other off.
    """
    return {"GLEANER_BUS__CLIENT_ID": "own"}


def scheduler_keys(settings: Settings, public_key: str) -> dict[str, str]:
    """Return the variable that makes a node obey our own scheduler as well."""
    keys = dict.fromkeys([*settings.node.scheduler_keys, public_key])
    return {"GLEANER_NODE__SCHEDULER_KEYS": json.dumps(list(keys))}


def service(
    name: str,
    *,
    module: str,
    config: Path | None,
    variables: Mapping[str, str],
    grace_seconds: float = CLEANING_UP_SECONDS,
    without: tuple[str, ...] = (),
) -> Program:
    """Return how a service is started; `without` names variables of ours it must not see."""
    inherited = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith(without)
    }
    # A service finds the program that runs it: no PATH, no other Python.
    command = [sys.executable, "-m", f"services.{module}"]
    if config is not None:
        command += ["--config", str(config)]
    return Program(
        name=name,
        command=tuple(command),
        environment={**inherited, **variables},
        grace_seconds=grace_seconds,
    )


def node_grace_seconds(settings: Settings) -> float:
    """Return how long a node may take to end: the longest grace of a workload, and some."""
    longest = max((workload.grace_seconds for workload in settings.workload), default=5.0)
    return longest + CLEANING_UP_SECONDS
