"""What `gleaner enroll` gives a host: one text with everything it needs to join a fleet.

`gleaner1.<base64url of JSON>.<check>`; the check tells a text that was cut or mistyped from one
that is merely wrong, before a broker refuses it without a reason.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

PREFIX, CHECK_LENGTH = "gleaner1", 8

Part = Literal["", "collector", "runner"]
"""Which process of a node; `""` is both in one, and everything that is no node."""


class Enrolment(BaseModel):
    """An account at a broker, and what its holder must know of the fleet."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    url: str
    user: str
    password: str
    client_id: Literal["user", "own"] = "user"
    node: str | None = None
    """The node it is for; services and people have none."""
    scheduler_keys: tuple[str, ...] = ()
    ca: str | None = None
    """The certificate authority of the broker (PEM), where it is none that systems know."""


def encode(enrolment: Enrolment) -> str:
    """Return the text."""
    raw = enrolment.model_dump_json(exclude_defaults=True).encode()
    packed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    return f"{PREFIX}.{packed}.{_check(packed)}"


def decode(text: str) -> Enrolment:
    """Return what a text says; raise ValueError that says what is wrong, never what it says."""
    # A terminal or a mail may have broken the line.
    first, *parts = "".join(text.split()).split(".")
    if first != PREFIX and first.startswith("gleaner") and first[7:].isdigit():
        raise ValueError("is of another version of Gleaner; make a new one with `gleaner enroll`")
    if first != PREFIX:
        raise ValueError("is no text of `gleaner enroll` (they begin with `gleaner1.`)")
    if len(parts) != 2 or parts[1] != _check(parts[0]):
        raise ValueError("is damaged; copy the whole text that `gleaner enroll` printed")
    try:
        padded = parts[0] + "=" * (-len(parts[0]) % 4)
        return Enrolment.model_validate_json(base64.urlsafe_b64decode(padded))
    except (ValueError, ValidationError) as error:
        raise ValueError("is damaged; make a new one with `gleaner enroll`") from error


def account(user: str, part: Part) -> str:
    """Return the user name of a part of a node: each connection has one of its own."""
    return f"{user}-{part}" if part else user


def settings_of(enrolment: Enrolment, part: Part) -> dict[str, dict[str, Any]]:
    """Return the settings that an enrolment stands for, as the file would have them."""
    bus: dict[str, Any] = {
        "url": enrolment.url,
        "user": account(enrolment.user, part if enrolment.node else ""),
        "password": enrolment.password,
        "client_id": enrolment.client_id,
    }
    if enrolment.ca is not None:
        bus["ca"] = enrolment.ca
    if enrolment.node is None:
        return {"bus": bus}
    return {
        "bus": bus,
        "node": {"id": enrolment.node, "scheduler_keys": enrolment.scheduler_keys},
    }


def is_for_tls(enrolment: Enrolment) -> bool:
    """Whether it leads to an encrypted listener."""
    return urlsplit(enrolment.url).scheme == "mqtts"


def _check(packed: str) -> str:
    return hashlib.sha256(packed.encode()).hexdigest()[:CHECK_LENGTH]
