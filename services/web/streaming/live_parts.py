"""Which parts of a page of the past follow the stream, and by what they know that they are old."""

from __future__ import annotations

from dataclasses import dataclass

from gleaner.bus.messages import EventKind

HAPPENED = (*(kind.value for kind in EventKind if kind is not EventKind.SAMPLES), "other")
"""Everything but samples, of which each node writes some each minute."""
RECORDER = "recorder"
"""Told like a kind of event: what is wrong with history has changed."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a part of a page shows."""

    kinds: tuple[str, ...] = ()
    """Kinds of events; when the recorder has new ones the part is old."""
    node: str | None = None
    """Of it only."""
    shows_now: bool = False
    """Also facts and readings of the node that the page is about."""
    pace_seconds: float = 1.0
    """It is not asked for more often."""

    @property
    def attributes(self) -> dict[str, str]:
        """Return what its element tells the script."""
        return {
            "data-kinds": " ".join(self.kinds),
            "data-node": self.node or "",
            "data-now": "yes" if self.shows_now else "",
            "data-pace": f"{self.pace_seconds:g}",
        }
