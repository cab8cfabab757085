"""Who may read and write which topics at the broker, made from the contract: one writer each.

The rules are mosquitto's `acl_file`. Every node is written out, since a pattern with the user's
name would let a user called `n1/x` write below another topic. Mosquitto grants every
subscription and filters what it delivers; what must not be written is refused when it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from gleaner.bus.message import ROOT, Message, Writer, filter_of, message_types
from gleaner.bus.messages import Availability

Role = Literal["node", "collector", "runner", "scheduler", "recorder", "web", "cli", "reader"]

_WRITES: dict[Role, frozenset[Writer]] = {
    "node": frozenset({Writer.COLLECTOR, Writer.RUNNER, Writer.NODE}),
    "collector": frozenset({Writer.COLLECTOR, Writer.NODE}),
    "runner": frozenset({Writer.RUNNER, Writer.NODE}),
    "scheduler": frozenset({Writer.SCHEDULER}),
    "recorder": frozenset({Writer.RECORDER}),
    "web": frozenset({Writer.CLIENT}),
    "cli": frozenset({Writer.CLIENT}),
    "reader": frozenset(),
}
_OF_ONE_NODE: frozenset[Role] = frozenset({"node", "collector", "runner"})


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user of the broker and what it is there for."""

    user: str
    role: Role
    node: str | None = None
    """The node it speaks for; services and people have none."""


def access_rules(accounts: Iterable[Account], *, anonymous_reads: bool = False) -> str:
    """Return the text of an ACL file; what it does not grant is refused."""
    blocks = [
        "# Made from the contract (gleaner/bus/access.py); see docs/bus.md for who writes what."
    ]
    if anonymous_reads:
        # Rules above the first `user` line are for clients without an account.
        blocks.append(f"# Without an account: everything may be read.\ntopic read {ROOT}/#")
    for account in accounts:
        lines = [f"user {account.user}"]
        lines += [f"topic read {topic_filter}" for topic_filter in readable(account)]
        lines += [f"topic write {topic_filter}" for topic_filter in writable(account)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def node_accounts(node: str, user: str | None = None) -> list[Account]:
    """Return the accounts of a node: for one process, and for collector and runner apart."""
    user = user or node
    return [
        Account(user=user, role="node", node=node),
        Account(user=f"{user}-collector", role="collector", node=node),
        Account(user=f"{user}-runner", role="runner", node=node),
    ]


def service_accounts() -> list[Account]:
    """Return the accounts of the services that a fleet has one of, and of the command line."""
    return [
        Account(user="scheduler", role="scheduler"),
        Account(user="recorder", role="recorder"),
        Account(user="web", role="web"),
        Account(user="operator", role="cli"),
    ]


def readable(account: Account) -> list[str]:
    """Return the topic filters an account may read.

    A node sees itself, also whether somebody else comes under its name, the scheduler's beat, and
    whether the recorder is there: when that comes back, the node sends again what a broker without
    it may have thrown away.
    """
    if account.node is None:
        return [f"{ROOT}/#"]
    recorder = filter_of(Availability, {"service": "recorder"})
    itself = filter_of(Availability, {"instance": account.node})
    return [f"{ROOT}/node/{account.node}/#", f"{ROOT}/scheduler/beat", recorder, itself]


def writable(account: Account) -> list[str]:
    """Return the topic filters an account may write; who only reads says not even that it came."""
    if account.role == "reader":
        return []
    return sorted(
        topic_filter
        for message_type in message_types()
        for topic_filter in _writable(message_type, account)
    )


def _writable(message_type: type[Message], account: Account) -> Iterator[str]:
    writer, levels = message_type.contract.writer, message_type.contract.levels
    if message_type is Availability:
        instance = {"instance": account.node} if account.node else {}
        yield filter_of(Availability, {"service": account.role} | instance)
    elif writer in _WRITES[account.role]:
        # A node without a name in its topic would let one node speak for all.
        assert account.role not in _OF_ONE_NODE or "node" in levels, message_type
        yield filter_of(message_type, {"node": account.node} if account.node else {})
