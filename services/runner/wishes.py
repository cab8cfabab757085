"""What schedulers say to this node: verified, then taken, or refused with the reason."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TypeVar

from gleaner.bus.message import Value
from gleaner.bus.messages import BeatBody, Desired, DesiredBody, SchedulerBeat
from gleaner.bus.signature import SignatureRefused, Verifier
from gleaner.runtime import boot_seconds
from services.runner import obey
from services.runner.obey import Allegiance

logger = logging.getLogger(__name__)

_SHOWN = 10
_WISH, _BEAT = "desired", "scheduler beat"

V = TypeVar("V", bound=Value)


class Wishes:
    """Whom we obey, what is wished for, and what of it was refused."""

    def __init__(self, node: str, verifier: Verifier) -> None:
        self._node = node
        self._verifier = verifier
        self._refused: dict[str, str] = {}
        self.allegiance = Allegiance()

    @property
    def refusals(self) -> tuple[str, ...]:
        """What was refused last, and why."""
        return tuple(f"{what}: {why}" for what, why in self._refused.items())[-_SHOWN:]

    def hear_wish(self, wish: Desired) -> bool:
        """Take in what is desired; return whether whom we obey is now another, to be kept."""
        body = self._verified(_WISH, DesiredBody, wish)
        if body is None:
            return False
        before = self.allegiance
        self.allegiance, why = obey.take_desired(before, body, self._node)
        self.refuse(_WISH, why)
        return why is None and (body.term, body.generation) != (before.term, before.generation)

    def hear_beat(self, beat: SchedulerBeat) -> None:
        """Take in a live beat, by which a scheduler allows launches."""
        body = self._verified(_BEAT, BeatBody, beat)
        if body is not None:
            self.allegiance, why = obey.take_beat(self.allegiance, body, boot_seconds())
            self.refuse(_BEAT, why)

    def disconnect(self) -> None:
        """Forget the last beat: after a gap, only a live one allows a launch."""
        self.allegiance = obey.disconnected(self.allegiance)

    def refuse(self, what: str, why: str | None) -> None:
        """Remember why something is refused; None: it no longer is."""
        if why is None:
            self._refused.pop(what, None)
        elif self._refused.get(what) != why:
            # Whoever makes up new keys all the time must not fill the log.
            is_news = what not in self._refused or what not in (_WISH, _BEAT)
            self._refused[what] = why
            if is_news:
                logger.info("refused %s: %s", what, why)

    def forget_refusals(self, wished: Collection[str]) -> None:
        """Forget why runs were refused that nobody wishes for any more."""
        for gone in self._refused.keys() - wished - {_WISH, _BEAT}:
            del self._refused[gone]

    def _verified(self, what: str, body_type: type[V], said: Desired | SchedulerBeat) -> V | None:
        try:
            return self._verifier.verify(body_type, said.body, said.key, said.signature)
        except SignatureRefused as refused:
            self.refuse(what, str(refused))
            return None
