"""Who is active, and what is said of it: values in, values out."""

from __future__ import annotations

from datetime import datetime, timedelta

from gleaner.bus.messages import People
from gleaner.settings import PeopleSettings
from services.collector.interface import Terminal
from services.collector.people.presence import (
    cannot_tell,
    is_news,
    not_watched,
    observe,
    with_inputs,
)
from tests.builders import NOW


def at(where: str, user: str | None = "user1", idle: float | None = 0) -> Terminal:
    return Terminal(where=where, user_id=1000, user=user, idle_seconds=idle)


def seen(
    *terminals: Terminal,
    now: datetime = NOW,
    before: People | None = None,
    idle_seconds: float = 300,
    whitelist: tuple[str, ...] = (),
) -> People:
    settings = PeopleSettings(idle_seconds=idle_seconds, whitelist=whitelist)
    return observe(terminals, node="n1", settings=settings, now=now, before=before)


def test_somebody_who_typed_lately_is_active() -> None:
    said = seen(at("pts/3", idle=299))

    assert (said.active, said.reason) == (True, "user1 is active at pts/3")


def test_somebody_who_did_not_is_there_but_not_active() -> None:
    said = seen(at("pts/3", idle=300))

    assert (said.active, said.reason) == (False, "nobody is active")
    assert [(person.user, person.active) for person in said.people] == [("user1", False)]


def test_several_are_counted_and_the_first_is_named() -> None:
    said = seen(at("pts/1", "user1"), at("pts/2", "user2"), at("pts/3", "user3", idle=900))

    assert said.reason == "user1 is active at pts/1, and 1 more"


def test_who_is_on_the_whitelist_is_shown_and_does_not_count() -> None:
    said = seen(at("pts/3"), whitelist=("user1",))

    assert not said.active
    assert said.reason == "nobody is active"
    assert (said.people[0].active, said.people[0].whitelisted) == (True, True)


def test_a_user_without_a_name_is_called_by_number_and_can_be_whitelisted_by_it() -> None:
    assert seen(at("pts/3", user=None)).reason == "user 1000 is active at pts/3"
    assert not seen(at("pts/3", user=None), whitelist=("1000",)).active


def test_when_nobody_can_tell_somebody_counts_as_active() -> None:
    said = seen(at("seat0", idle=None))

    assert said.active
    assert said.people[0].idle_seconds is None
    assert said.reason == "nobody can tell whether user1 is active at seat0"


def test_with_zero_idle_seconds_nobody_is_ever_active() -> None:
    assert not seen(at("pts/3", idle=0), at("seat0", idle=None), idle_seconds=0).active


def test_a_start_counts_as_somebody_leaving_just_now() -> None:
    assert seen(at("pts/3", idle=9999)).since == NOW


def test_since_stays_until_the_answer_changes() -> None:
    first = seen(at("pts/3", idle=400))
    second = seen(at("pts/3", idle=460), now=NOW + timedelta(seconds=60), before=first)
    third = seen(at("pts/3", idle=0), now=NOW + timedelta(seconds=90), before=second)

    assert second.since == NOW
    assert third.since == third.people[0].since == NOW + timedelta(seconds=90)


def test_another_user_at_the_same_terminal_is_somebody_else() -> None:
    first = seen(at("pts/3"))
    stranger = Terminal(where="pts/3", user_id=1001, user="user2", idle_seconds=0)
    second = seen(stranger, now=NOW + timedelta(seconds=60), before=first)

    assert second.people[0].since == NOW + timedelta(seconds=60)
    assert is_news(first, second)


def test_typing_on_is_no_news() -> None:
    first = seen(at("pts/3", idle=0))
    second = seen(at("pts/3", idle=120), now=NOW + timedelta(seconds=120), before=first)

    assert not is_news(first, second)


def test_coming_going_and_falling_idle_are_news() -> None:
    here = seen(at("pts/3", idle=0))

    assert is_news(None, here)
    assert is_news(here, seen(before=here))
    assert is_news(here, seen(at("pts/3", idle=0), at("pts/4", idle=900), before=here))
    assert is_news(here, seen(at("pts/3", idle=301), before=here))


def test_idle_times_are_told_in_whole_minutes_so_that_nobody_learns_when_a_key_was_typed() -> None:
    assert [person.idle_seconds for person in seen(at("pts/3", idle=59.9)).people] == [0]
    assert [person.idle_seconds for person in seen(at("pts/3", idle=615.2)).people] == [600]


def test_input_that_was_heard_shortens_the_idle_time() -> None:
    heard = {"pts/3": 995.0, "pts/4": 100.0}

    terminals = with_inputs((at("pts/3", idle=400), at("pts/4", idle=7)), heard, 1000)

    assert [one.idle_seconds for one in terminals] == [5, 7]


def test_input_heard_does_not_tell_what_cannot_be_told() -> None:
    (seat,) = with_inputs((at("seat0", idle=None),), {"seat0": 0.0}, 86_400)

    assert seat.idle_seconds is None


def test_a_node_that_cannot_look_is_not_idle() -> None:
    said = cannot_tell("n1", "/dev/pts: Permission denied", NOW, None)

    assert said.active
    assert said.problems == ("/dev/pts: Permission denied",)
    assert said.reason == "nobody can tell who is here: /dev/pts: Permission denied"


def test_a_node_that_does_not_watch_says_so() -> None:
    said = not_watched("n1", NOW)

    assert (said.watched, said.active, said.reason) == (False, False, "people are not watched")
