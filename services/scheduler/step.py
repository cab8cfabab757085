"""The scheduler in one function: what is known and one event -> what is known and said."""

from __future__ import annotations

from dataclasses import replace

from gleaner.bus.messages import Request
from gleaner.settings import SchedulerSettings
from services.scheduler.decide import decide
from services.scheduler.events import Event, Heard, Said
from services.scheduler.observe import observe
from services.scheduler.requests import answer
from services.scheduler.state import State


def step(state: State, event: Event, policy: SchedulerSettings) -> tuple[State, list[Said]]:
    """Take in one event; return what is known now and what must be said."""
    said: list[Said] = []
    if isinstance(event, Heard) and isinstance(event.delivery.message, Request):
        state, response = answer(replace(state, now=event.at), event.delivery.message)
        said.append(response)
    else:
        state = observe(state, event)
    state, decided = decide(state, policy)
    return state, [*said, *decided]
