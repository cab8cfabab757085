"""What may happen to the scheduler, and what it may say to that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Blockers, DesiredBody, Response, SchedulerState


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A message arrived, or a retained one was cleared."""

    delivery: Delivery
    at: datetime


@dataclass(frozen=True, kw_only=True)
class HeardWish:
    """A `Desired` of our own key came by: an earlier scheduler's, or an echo of ours."""

    body: DesiredBody
    at: datetime


@dataclass(frozen=True, kw_only=True)
class HeardRival:
    """A beat that we did not send."""

    term: int
    key: str | None = None
    """Whose it is, if it does not bear our own key; then nothing in it can be believed."""
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Connected:
    """The broker is there."""

    at: datetime


@dataclass(frozen=True, kw_only=True)
class Disconnected:
    """The broker is gone, and with it all certainty."""

    at: datetime


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Time went on."""

    at: datetime


@dataclass(frozen=True, kw_only=True)
class More:
    """Nothing happened, but some touched nodes still wait to be decided for."""

    at: datetime


Event = Heard | HeardWish | HeardRival | Connected | Disconnected | Tick | More


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Something was decided; for the log."""

    node: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """A node was removed: our facts about it are to be cleared."""

    node: str


@dataclass(frozen=True, kw_only=True)
class Superseded:
    """Another scheduler speaks with a higher term: this one must stop."""

    text: str


Said = DesiredBody | Blockers | SchedulerState | Response | Decision | Forgotten | Superseded
"""What a step may say; the shell signs, publishes and logs it."""
