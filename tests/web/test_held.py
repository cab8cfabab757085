"""GPUs that are held without use, with owner and since when."""

from __future__ import annotations

from datetime import timedelta

from services.web import texts
from services.web.shown.held import held
from tests.builders import NOW
from tests.web.conftest import Web
from tests.web.example import GIB


async def test_held_gpus_are_listed_longest_first_with_their_owners(busy: Web) -> None:
    example = busy.example()
    ann = example.holder(7, "ann", "python", GIB, hours=9)
    bob = example.holder(8, "bob", "python", 2 * GIB, hours=9)
    await busy.say([example.state("atlas", 4, "held", "", ann, bob, hours=8)])

    found = held(busy.live.moment().facts)

    assert [(one.index, one.owner, one.memory_used_bytes) for one in found] == [
        (4, "ann, bob", 3 * GIB),
        (5, "bob", 38 * GIB),
    ]
    assert texts.hours(found[0].since, busy.now) == "8.0"


async def test_what_was_held_on_a_silent_node_is_not_held_now(busy: Web) -> None:
    busy.later(30)

    assert held(busy.live.moment().facts) == []


def test_wasted_hours_are_told_with_a_decimal_or_in_words_and_never_below_zero() -> None:
    assert texts.hours(NOW - timedelta(minutes=90), NOW) == "1.5"
    assert texts.hours(NOW - timedelta(minutes=1), NOW) == "1 min"
    assert texts.hours(NOW + timedelta(minutes=90), NOW) == "0 s"
    assert texts.hours(None, NOW) == "–"
