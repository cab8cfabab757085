"""What the recorder has new, for pages of the past: they ask for it when there is some; pure.

However much is recorded, it is told once a second at most: each page that shows it asks then.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from gleaner.bus.messages import EventKind, Recorded
from services.web.shown.view import News
from services.web.streaming.live_parts import RECORDER

APART = timedelta(seconds=1)


class Newspaper:
    """Notes what is new, and in which event of the stream each was told last."""

    def __init__(self) -> None:
        self._latest: dict[str, Mapping[str, datetime]] = {}
        self._waiting: dict[str, set[str]] = {}
        """By node: kinds of events that are not told of yet."""
        self._told: dict[str, dict[str, int]] = {}
        self._told_at: datetime | None = None

    def take(self, recorded: Recorded, *, retained: bool) -> bool:
        """Take in how far the recorder is; return whether that should be told soon.

        What is retained may be old: it tells something new only of nodes that were heard before.
        Samples come from all nodes all the time, and wait for the tick.
        """
        node, latest = recorded.node, recorded.latest
        before = self._latest.get(node)
        self._latest[node] = latest
        if before is None and retained:
            return False
        new = {kind for kind, at in latest.items() if (before or {}).get(kind) != at}
        if new:
            self._waiting.setdefault(node, set()).update(new)
        return bool(new - {EventKind.SAMPLES})

    def recorder_changed(self) -> None:
        """Note that something else is wrong with history than before, or nothing any more."""
        self._waiting.setdefault("", set()).add(RECORDER)

    def due(self, number: int, now: datetime) -> tuple[News, ...]:
        """Return what is to be told now, in the stream's event of that number."""
        if not self._waiting or (self._told_at and abs(now - self._told_at) < APART):
            return ()
        self._told_at = now
        nodes, self._waiting = self._waiting, {}
        for node, kinds in nodes.items():
            self._told.setdefault(node, {}).update(dict.fromkeys(kinds, number))
        return tuple(self._news(node) for node in nodes)

    def all(self) -> tuple[News, ...]:
        """Return what was told so far."""
        return tuple(self._news(node) for node in self._told)

    def _news(self, node: str) -> News:
        return News(node=node, kinds=dict(self._told[node]))
