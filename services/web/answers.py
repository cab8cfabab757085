"""Answers to forms, kept for the page that a browser loads next."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from dataclasses import dataclass

KEPT = 100


@dataclass(frozen=True, kw_only=True)
class GivenAnswer:
    """What became of a change."""

    ok: bool
    text: str


class Answers:
    """The last answers by a random id; the text itself never stands in an address."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, GivenAnswer] = OrderedDict()

    def keep(self, answer: GivenAnswer) -> str:
        """Keep an answer and return its id."""
        identity = uuid.uuid4().hex
        self._kept[identity] = answer
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return identity

    def get(self, identity: str) -> GivenAnswer | None:
        """Return an answer, or None if it is not known (any more)."""
        return self._kept.get(identity)
