"""Decide from the terminals who is at the node, who is active, and whether it is worth saying.

Pure: times come in as values. Nothing here lets a reader of the bus learn when a key was typed:
a fact is published when somebody comes, goes, becomes active or idle, and never in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from gleaner.bus.messages import People, Person
from gleaner.settings import PeopleSettings
from services.collector.interface import Terminal

IDLE_STEP_SECONDS = 60.0
"""Idle times are told in these steps; finer ones would tell when somebody types."""


def not_watched(node: str, now: datetime) -> People:
    """Return the fact of a node that does not look at people."""
    return People(
        node=node,
        watched=False,
        active=False,
        reason="people are not watched",
        since=now,
        at=now,
    )


def cannot_tell(node: str, problem: str, now: datetime, before: People | None) -> People:
    """Return the fact of a node that cannot see who is there: unknown is never idle."""
    return People(
        node=node,
        watched=True,
        active=True,
        reason=f"nobody can tell who is here: {problem}",
        problems=(problem,),
        since=before.since if before is not None and before.active else now,
        at=now,
    )


def with_inputs(
    terminals: tuple[Terminal, ...], heard: Mapping[str, float], steady: float
) -> tuple[Terminal, ...]:
    """Return the terminals, none idle for longer than since its last input was heard.

    Moments are of a clock that nobody sets: else whoever types as it is set would be gone.
    """

    def heard_at(terminal: Terminal) -> Terminal:
        if terminal.idle_seconds is None or terminal.where not in heard:
            return terminal
        since_heard = max(0.0, steady - heard[terminal.where])
        return replace(terminal, idle_seconds=min(terminal.idle_seconds, since_heard))

    return tuple(map(heard_at, terminals))


def observe(
    terminals: tuple[Terminal, ...],
    *,
    node: str,
    settings: PeopleSettings,
    now: datetime,
    before: People | None,
) -> People:
    """Return who is at the node; `before` is what was said last, None after a start."""
    known = {(person.where, person.user_id): person for person in before.people} if before else {}
    people = tuple(
        _person(terminal, settings, now, known.get((terminal.where, terminal.user_id)))
        for terminal in terminals
    )
    counting = tuple(person for person in people if person.active and not person.whitelisted)
    active = bool(counting)
    # After a start `since` is now: the node cannot know that nobody has just left.
    since = before.since if before is not None and before.active == active else now
    return People(
        node=node,
        watched=True,
        active=active,
        reason=_reason(counting),
        people=people,
        since=since,
        at=now,
    )


def is_news(before: People | None, after: People) -> bool:
    """Whether something changed that others should hear of; idle times alone are not."""
    return before is None or _essence(before) != _essence(after)


def _person(
    terminal: Terminal, settings: PeopleSettings, now: datetime, before: Person | None
) -> Person:
    idle = terminal.idle_seconds
    active = settings.idle_seconds > 0 and (idle is None or idle < settings.idle_seconds)
    return Person(
        user=terminal.user,
        user_id=terminal.user_id,
        where=terminal.where,
        active=active,
        since=before.since if before is not None and before.active == active else now,
        idle_seconds=None if idle is None else idle // IDLE_STEP_SECONDS * IDLE_STEP_SECONDS,
        whitelisted=(terminal.user or str(terminal.user_id)) in settings.whitelist,
    )


def _reason(counting: tuple[Person, ...]) -> str:
    if not counting:
        return "nobody is active"
    first, *others = counting
    who = first.user or f"user {first.user_id}"
    more = f", and {len(others)} more" if others else ""
    if first.idle_seconds is None:
        return f"nobody can tell whether {who} is active at {first.where}{more}"
    return f"{who} is active at {first.where}{more}"


def _essence(people: People) -> People:
    persons = tuple(person.model_copy(update={"idle_seconds": None}) for person in people.people)
    unchanging = {"people": persons, "at": people.since, "noticed_ns": None, "noticed_by": None}
    return people.model_copy(update=unchanging)
