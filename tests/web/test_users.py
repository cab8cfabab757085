"""The table of users: added up over hosts, node by node, and only of what is known now."""

from __future__ import annotations

from gleaner.bus.messages import GpuState
from services.web import texts
from tests.web.conftest import Web
from tests.web.example import GIB

MIB = 2**20


async def test_users_are_added_up_by_memory_with_where_they_are(web: Web) -> None:
    example = web.example()
    ann = example.holder(7, "ann", "python", 700 * MIB, minutes=1)
    bob = example.holder(8, "bob", "python", 900 * MIB, minutes=1)
    await web.say(
        [
            example.online("h1"),
            example.beat("h1"),
            example.inventory("h1", "A100", 2, 40 * GIB, notices="fanotify"),
            example.state("h1", 0, "busy", "", ann, bob),
            example.state("h1", 1, "busy", "", ann),
        ]
    )

    users = web.live.moment().users

    assert [
        (one.user, texts.amount(one.memory_used_bytes), one.n_procs, one.gpus) for one in users
    ] == [("ann", "1.37 GiB", 2, ("h1-0,1",)), ("bob", "900 MiB", 1, ("h1-0",))]


async def test_indices_are_in_the_order_of_numbers(web: Web) -> None:
    example = web.example()
    eve = example.holder(7, "eve", "python", GIB, minutes=1)
    states = [example.state("h1", index, "busy", "", eve) for index in (10, 2)]
    await web.say([example.online("h1"), example.beat("h1"), *states])

    assert web.live.moment().users[0].gpus == ("h1-2,10",)


async def test_nothing_of_a_silent_node_is_counted_and_that_is_said(busy: Web) -> None:
    moment = busy.live.moment()

    assert "dan" not in [one.user for one in moment.users]
    assert moment.overview.not_counted == ("draco is stale: its last process not counted",)


async def test_who_stops_is_gone_and_who_starts_is_there(busy: Web) -> None:
    example = busy.example()
    eve = example.holder(9, "eve", "python", GIB, minutes=1)
    await busy.say(
        [
            example.state("atlas", 0, "idle", ""),
            example.state("atlas", 1, "idle", ""),
            example.state("atlas", 4, "busy", "", eve),
        ]
    )

    users = {one.user: one for one in busy.live.moment().users}

    assert "alice" not in users
    assert users["eve"].gpus == ("atlas-4",)


async def test_memory_that_is_not_known_of_all_is_a_least(web: Web) -> None:
    example = web.example()
    known = example.holder(7, "ann", "python", GIB, minutes=1)
    unknown = known.model_copy(update={"pid": 8, "memory_used_bytes": None})
    await web.say(
        [
            example.online("h1"),
            example.beat("h1"),
            example.state("h1", 0, "busy", "", known, unknown),
        ]
    )

    (ann,) = web.live.moment().users

    assert (ann.memory_used_bytes, ann.memory_is_complete, ann.n_procs) == (GIB, False, 2)


async def test_only_who_changed_is_told(busy: Web) -> None:
    reader = busy.live.events()
    await anext(reader)
    example = busy.example()
    await busy.say([example.state("atlas", 5, "idle", "")])
    busy.live.flush()

    event = (await anext(reader)).decode()

    assert '"users_gone":["bob"]' in event
    assert '"users":[]' in event


async def test_a_node_that_is_removed_takes_its_users_along(busy: Web) -> None:
    for index in range(8):
        busy.others.clear(GpuState, node="atlas", gpu=f"GPU-atlas-{index:04d}")
    await busy.say([])

    assert {"alice", "bob"}.isdisjoint(one.user for one in busy.live.moment().users)
