"""People from terminal to bus: on a simulated node, and at real pseudo-terminals."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.local import NodeBus
from gleaner.bus.memory import MemoryBroker, MemoryBus
from gleaner.bus.message import Writer
from gleaner.bus.messages import People
from gleaner.bus.outbox import Outbox
from gleaner.settings import NodeSettings, PeopleSettings, SimulatedSettings
from services.collector.interface import Notice, Notices, Terminal, Terminals
from services.collector.kernel.fanotify import Fanotify
from services.collector.kernel.inotify import InotifyNotices
from services.collector.kernel.notices import FirstThatCan
from services.collector.people.terminals import RealTerminals
from services.collector.people.watch import PeopleWatch
from services.collector.simulated.node import Simulation
from tests.builders import NOW, until
from tests.collector.pseudo_terminal import PseudoTerminal


class Clock:
    def __init__(self) -> None:
        self.now = NOW
        self.up = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def steady(self) -> float:
        return self.up

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.up += seconds

    def is_set(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Still:
    """A terminal at which the access time does not tell of input."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    async def look(self) -> tuple[Terminal, ...]:
        return (self._terminal,)

    def problems(self) -> tuple[str, ...]:
        return ()

    async def close(self) -> None:
        return


class Node:
    """A watch, what it has said, and what it has kept."""

    def __init__(
        self,
        terminals: Terminals,
        notices: Notices,
        settings: PeopleSettings,
        clock: Clock | None = None,
    ) -> None:
        self.outbox = Outbox(None)
        roles = frozenset({Writer.COLLECTOR, Writer.NODE})
        self.bus = NodeBus("n1", "boot", MemoryBus(MemoryBroker()), self.outbox, roles)
        self.said: list[People] = []
        self.bus.subscribe(People, self._hear)
        clock = clock or Clock()
        self.watch = PeopleWatch(
            self.bus, settings, "n1", terminals, notices, now=clock, steady=clock.steady
        )

    def _hear(self, delivery: Delivery) -> None:
        assert isinstance(delivery.message, People)
        self.said.append(delivery.message)

    @property
    def kept(self) -> list[object]:
        return [event.data["active"] for event in self.outbox.after({}, 100, 100)]


def simulated(**people: object) -> tuple[Simulation, Clock, Node]:
    clock = Clock()
    settings = NodeSettings(id="n1", simulated=SimulatedSettings(gpus=1))
    world = Simulation(settings, clock, quiet=True)
    node = Node(world.terminals, world.notices, PeopleSettings(**people), clock)
    return world, clock, node


async def test_an_empty_node_says_once_that_nobody_is_active() -> None:
    _, clock, node = simulated()

    await node.watch.check()
    clock.passes(60)
    await node.watch.check()

    assert [said.reason for said in node.said] == ["nobody is active"]
    assert node.said[0].since == NOW


async def test_somebody_who_comes_is_seen_by_the_next_check() -> None:
    world, _, node = simulated()
    await node.watch.check()

    world.types("user1", "pts/0")
    await node.watch.check()

    assert node.said[-1].reason == "user1 is active at pts/0"
    assert node.said[-1].noticed_ns is None
    assert node.kept == [False, True]


async def test_somebody_who_logs_in_is_heard_before_the_next_check() -> None:
    world, _, node = simulated()
    await node.watch.check()

    world.types("user1", "pts/0")

    await until(lambda: len(node.said) > 1)
    assert node.said[-1].noticed_by == "script"
    await node.watch.close()


async def test_a_key_is_heard_in_the_same_call_and_says_how_it_was_noticed() -> None:
    world, clock, node = simulated()
    world.types("user1", "pts/0")
    await node.watch.check()
    clock.passes(301)
    await node.watch.check()

    before = time.monotonic_ns()
    world.types("user1", "pts/0")

    assert [said.active for said in node.said] == [True, False, True]
    assert node.said[-1].noticed_by == "script"
    assert before <= (node.said[-1].noticed_ns or 0) <= time.monotonic_ns()


@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_a_clock_that_is_set_makes_nobody_who_typed_lately_idle(seconds: float) -> None:
    clock, path = Clock(), Path("/p")
    terminal = Terminal(where="pts/0", user_id=1, user="user1", idle_seconds=900, path=path)
    node = Node(Still(terminal), FirstThatCan(), PeopleSettings(), clock)
    await node.watch.check()
    node.watch.hear(Notice(path=path, pid=None, noticed_ns=1, by="script"))

    clock.is_set(seconds)
    clock.passes(299)
    await node.watch.check()
    still_active = node.said[-1].active
    clock.passes(2)
    await node.watch.check()

    assert [said.active for said in node.said] == [False, True, False]
    assert still_active


async def test_an_hour_of_typing_is_two_facts_and_no_timing() -> None:
    world, clock, node = simulated()
    for _ in range(360):
        world.types("user1", "pts/0")
        await node.watch.check()
        clock.passes(10)
    clock.passes(300)
    await node.watch.check()

    assert [said.active for said in node.said] == [True, False]
    assert node.kept == [True, False]


async def test_somebody_on_the_whitelist_is_shown_and_no_event_is_kept() -> None:
    world, _, node = simulated(whitelist=("user1",))
    await node.watch.check()

    world.types("user1", "pts/0")
    await node.watch.check()

    assert [person.user for person in node.said[-1].people] == ["user1"]
    assert node.kept == [False]


async def test_a_node_that_does_not_watch_people_says_so_once_and_keeps_nothing() -> None:
    world, _, node = simulated(enabled=False)
    world.types("user1", "pts/0")

    await node.watch.check()
    await node.watch.check()

    assert [said.watched for said in node.said] == [False]
    assert node.kept == []
    assert node.watch.notices_people_by == "nothing"
    assert "people are not watched" in node.watch.limitations()[0]


async def test_a_key_at_a_terminal_that_was_left_is_nobodys() -> None:
    world, _, node = simulated()
    world.types("user1", "pts/0")
    await node.watch.check()
    (terminal,) = await world.terminals.look()
    world.logs_out("pts/0")
    await node.watch.check()

    assert terminal.path
    node.watch.hear(Notice(path=terminal.path, pid=None, noticed_ns=1, by="script"))

    assert [said.active for said in node.said] == [True, False]


async def test_a_place_that_cannot_be_looked_at_is_not_idle(tmp_path: Path) -> None:
    settings = PeopleSettings(device_directory=tmp_path, seats=False)
    node = Node(RealTerminals(settings), FirstThatCan(), settings)

    await node.watch.check()
    (tmp_path / "pts").mkdir()
    await node.watch.check()

    assert [said.active for said in node.said] == [True, False]
    assert str(tmp_path / "pts") in node.said[0].reason


@pytest.fixture(params=[Fanotify, InotifyNotices])
async def hearing(request: pytest.FixtureRequest) -> AsyncIterator[Notices]:
    notices = request.param()
    yield notices
    notices.close()


def only(pseudo: PseudoTerminal, folder: Path) -> Path:
    """Make a device directory in which this terminal is the only one."""
    (folder / "pts").mkdir()
    (folder / "pts" / pseudo.path.name).symlink_to(pseudo.path)
    return folder


@pytest.mark.real
async def test_a_real_key_after_a_long_silence_is_heard_at_once(
    hearing: Notices, tmp_path: Path
) -> None:
    with PseudoTerminal() as pseudo:
        settings = PeopleSettings(device_directory=only(pseudo, tmp_path), seats=False)
        hour_ago = time.time() - 3600
        os.utime(pseudo.path, (hour_ago, hour_ago))
        node = Node(RealTerminals(settings), hearing, settings)
        await node.watch.check()

        pseudo.types()

        await until(lambda: len(node.said) > 1)
        assert [said.active for said in node.said] == [False, True]
        assert node.said[-1].reason == f"root is active at {pseudo.where}"
        assert node.said[-1].noticed_by == hearing.by == node.watch.notices_people_by
        await node.watch.close()


@pytest.mark.real
async def test_without_notices_a_real_key_is_seen_by_the_access_time(tmp_path: Path) -> None:
    with PseudoTerminal() as pseudo:
        settings = PeopleSettings(device_directory=only(pseudo, tmp_path), seats=False)
        hour_ago = time.time() - 3600
        os.utime(pseudo.path, (hour_ago, hour_ago))
        node = Node(RealTerminals(settings), FirstThatCan(), settings)
        await node.watch.check()

        pseudo.types()
        await until(lambda: pseudo.shows("x\r\nx"))
        await node.watch.check()

        assert [said.active for said in node.said] == [False, True]
        assert node.watch.notices_people_by == "atime"
        assert "next check" in node.watch.limitations()[0]


@pytest.mark.real
async def test_a_real_terminal_that_is_closed_is_gone_with_the_next_check(
    hearing: Notices, tmp_path: Path
) -> None:
    with PseudoTerminal() as pseudo:
        settings = PeopleSettings(device_directory=only(pseudo, tmp_path), seats=False)
        node = Node(RealTerminals(settings), hearing, settings)
        await node.watch.check()
        pseudo.leave()

        await node.watch.check()

        assert [said.active for said in node.said] == [True, False]
        assert node.said[-1].people == ()


@pytest.mark.real
async def test_a_login_is_heard_before_the_next_check(hearing: Notices) -> None:
    settings = PeopleSettings(seats=False)
    node = Node(RealTerminals(settings), hearing, settings)
    await node.watch.check()

    def people() -> dict[str, str | None]:
        return {person.where: said.noticed_by for said in node.said for person in said.people}

    # In a process of its own: what we open ourselves is not told.
    with subprocess.Popen(
        ["script", "-qc", "tty; sleep 60", "/dev/null"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    ) as login:
        assert login.stdout
        where = login.stdout.readline().decode().strip().removeprefix("/dev/")
        await until(lambda: where in people())
        login.kill()

    assert people()[where] == hearing.by
    await node.watch.close()
