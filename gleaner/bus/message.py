"""What a message is: a frozen value with a topic, one writer and a way of delivery.

A message class is the contract. Its topic template names fields of the class in braces; a field
that stands in the topic stands in the payload too, and a payload that contradicts its topic is
refused. Unknown fields are ignored, new fields are optional; anything else is a new `v2`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints

ROOT = "gleaner/v1"
_LEVEL = re.compile(r"[A-Za-z0-9_.:-]{1,80}")
_FIELD = re.compile(r"\{(\w+)\}")
_TOPICS = 4096
"""Whose messages are known by heart; of each some hundred bytes."""

_YEARS = range(2, 9999)
"""Beyond them nothing of ours happens, and reckoning with an instant could end outside of time."""


def _to_utc(at: datetime) -> datetime:
    if at.year in _YEARS:
        return at.astimezone(UTC)
    raise ValueError(f"lies outside the years {_YEARS[0]} to {_YEARS[-1]}")


Utc = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""An instant: aware, in UTC; RFC 3339 on the wire."""

Level = Annotated[str, StringConstraints(pattern=f"^{_LEVEL.pattern}$")]
"""A name that will stand in a topic."""


class QoS(IntEnum):
    """MQTT's quality of service; QoS 2 is never used."""

    AT_MOST_ONCE = 0
    AT_LEAST_ONCE = 1


class Writer(StrEnum):
    """Who alone may write a topic; the broker's access rules are made from it."""

    COLLECTOR = "collector"
    RUNNER = "runner"
    NODE = "node"  # collector and runner, each with an outbox of its own
    SCHEDULER = "scheduler"
    RECORDER = "recorder"
    ANY_SERVICE = "any service"
    CLIENT = "client"  # web, command line, integrations with an account


class Value(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """How one kind of message travels."""

    topic: str
    writer: Writer
    retain: bool
    qos: QoS
    levels: tuple[str, ...]
    """The fields that stand in the topic, in order."""


class Message(Value):
    """Something said on the bus; subclasses are registered with `on`."""

    contract: ClassVar[Contract]

    def levels(self) -> dict[str, str]:
        """Return the values of the topic's levels."""
        return {name: str(getattr(self, name)) for name in self.contract.levels}

    @property
    def topic(self) -> str:
        """The topic this message is published under."""
        return topic_of(type(self), self.levels())


M = TypeVar("M", bound=Message)
_messages: dict[str, type[Message]] = {}


def on(
    template: str, *, writer: Writer, retain: bool = False, qos: QoS = QoS.AT_LEAST_ONCE
) -> Callable[[type[M]], type[M]]:
    """Register a message class under a topic template below `gleaner/v1/`."""

    def register(cls: type[M]) -> type[M]:
        levels = tuple(_FIELD.findall(template))
        missing = [name for name in levels if name not in cls.model_fields]
        if missing:
            raise TypeError(f"{cls.__name__}: the topic names {missing}, which are no fields")
        cls.contract = Contract(
            topic=f"{ROOT}/{template}", writer=writer, retain=retain, qos=qos, levels=levels
        )
        _messages[cls.contract.topic] = cls
        _matched.cache_clear()
        return cls

    return register


def message_types() -> tuple[type[Message], ...]:
    """Return all registered message classes, in the order of their topics."""
    return tuple(_messages[topic] for topic in sorted(_messages))


def topic_of(message_type: type[Message], levels: dict[str, str]) -> str:
    """Return the topic with these levels; a value unfit for a topic level is a ValueError."""

    def fill(match: re.Match[str]) -> str:
        value = levels[match[1]]
        if not _LEVEL.fullmatch(value):
            raise ValueError(f"{message_type.__name__}.{match[1]}: {value!r} is no topic level")
        return value

    return _FIELD.sub(fill, message_type.contract.topic)


def filter_of(message_type: type[Message], levels: dict[str, str]) -> str:
    """Return the topic filter that matches these levels and any value of the others."""
    unknown = set(levels) - set(message_type.contract.levels)
    if unknown:
        raise ValueError(f"{message_type.__name__}: the topic has no level {sorted(unknown)}")
    return _FIELD.sub(lambda match: levels.get(match[1], "+"), message_type.contract.topic)


def match(topic: str) -> tuple[type[Message], dict[str, str]] | None:
    """Return the message class and levels that a topic stands for, or None."""
    found = _matched(topic)
    return None if found is None else (found[0], {**found[1]})


# Topics come again and again, and there are many to compare each with.
@lru_cache(_TOPICS)
def _matched(topic: str) -> tuple[type[Message], dict[str, str]] | None:
    parts = topic.split("/")
    for template, message_type in _messages.items():
        levels = _match(template.split("/"), parts)
        if levels is not None:
            return message_type, levels
    return None


def _match(template: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(template) != len(parts):
        return None
    levels = {}
    for expected, part in zip(template, parts, strict=True):
        if expected.startswith("{"):
            if not _LEVEL.fullmatch(part):
                return None
            levels[expected[1:-1]] = part
        elif expected != part:
            return None
    return levels


def safe_level(name: str) -> str:
    """Make a host's name safe for a topic level: `[a-z0-9_-]`, never empty."""
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "node"
