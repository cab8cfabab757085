"""People at graphical seats: a real message bus with a small logind on it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from gleaner.settings import PeopleSettings
from services.collector.people.logind import Logind
from services.collector.people.terminals import RealTerminals

pytestmark = pytest.mark.real

NAME = "org.freedesktop.login1"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address"]
    command += [f"--address=unix:path={tmp_path / 'bus'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        yield daemon.stdout.readline().strip()
        daemon.terminate()


class SmallLogind:
    """Answers `ListSessions` and `GetAll` as logind does."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Variant]] = {}
        self.asked: list[str] = []

    async def start(self, address: str) -> None:
        self._bus = await MessageBus(address).connect()
        self._bus.add_message_handler(self._answer)
        await self._bus.request_name(NAME)

    async def stop(self) -> None:
        self._bus.disconnect()
        await self._bus.wait_for_disconnect()

    def has(self, number: str, **properties: Any) -> None:
        session = {
            "Id": Variant("s", number),
            "User": Variant("(uo)", [1000, "/org/freedesktop/login1/user/_1000"]),
            "Name": Variant("s", "user1"),
            "Seat": Variant("(so)", ["seat0", "/org/freedesktop/login1/seat/seat0"]),
            "Type": Variant("s", "wayland"),
            "Class": Variant("s", "user"),
            "Active": Variant("b", True),
            "LockedHint": Variant("b", False),
            "IdleHint": Variant("b", False),
            "IdleSinceHintMonotonic": Variant("t", 1),
        }
        changed = {
            name: Variant(session[name].signature, value) for name, value in properties.items()
        }
        self.sessions[f"/org/freedesktop/login1/session/_{number}"] = session | changed

    def _answer(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if message.member == "ListSessions":
            rows = [["1", 1000, "user1", "seat0", path] for path in self.sessions]
            return Message.new_method_return(message, "a(susso)", [rows])
        if message.member == "GetAll":
            self.asked.append(message.path)
            if "_gone" in message.path:
                return Message.new_error(message, f"{NAME}.NoSuchSession", "it ended")
            return Message.new_method_return(message, "a{sv}", [self.sessions[message.path]])
        return None


@pytest.fixture
async def small(address: str) -> AsyncIterator[SmallLogind]:
    logind = SmallLogind()
    await logind.start(address)
    yield logind
    await logind.stop()


@pytest.fixture
async def asker(address: str) -> AsyncIterator[Logind]:
    logind = Logind(address)
    yield logind
    await logind.close()


async def test_somebody_at_a_desktop_is_active(small: SmallLogind, asker: Logind) -> None:
    small.has("1")

    (seat,) = await asker.seats()

    assert (seat.where, seat.user, seat.user_id, seat.idle_seconds) == ("seat0", "user1", 1000, 0)
    assert asker.problems() == ()


async def test_a_desktop_tells_since_when_it_is_idle(small: SmallLogind, asker: Logind) -> None:
    small.has("1", IdleHint=True, IdleSinceHintMonotonic=int((time.monotonic() - 100) * 1e6))

    (seat,) = await asker.seats()

    assert seat.idle_seconds == pytest.approx(100, abs=5)


async def test_a_desktop_that_never_gave_a_hint_cannot_be_told(
    small: SmallLogind, asker: Logind
) -> None:
    small.has("1", IdleSinceHintMonotonic=0)

    (seat,) = await asker.seats()

    assert seat.idle_seconds is None


async def test_a_locked_or_hidden_screen_and_a_greeter_are_nobody(
    small: SmallLogind, asker: Logind
) -> None:
    small.has("1", LockedHint=True)
    small.has("2", Active=False)
    small.has("3", Class="greeter")

    assert await asker.seats() == ()


async def test_root_at_a_desktop_is_somebody(small: SmallLogind, asker: Logind) -> None:
    small.has("1", Class="user-early", Name="root", User=[0, "/org/freedesktop/login1/user/_0"])

    assert [seat.user for seat in await asker.seats()] == ["root"]


async def test_a_text_session_is_left_to_its_terminal_and_asked_about_once(
    small: SmallLogind, asker: Logind
) -> None:
    small.has("1", Type="tty")

    assert await asker.seats() == ()
    assert await asker.seats() == ()
    assert len(small.asked) == 1


async def test_a_remote_desktop_has_no_seat_but_a_session(
    small: SmallLogind, asker: Logind
) -> None:
    small.has("7", Seat=["", "/"])

    (seat,) = await asker.seats()

    assert seat.where == "session 7"


async def test_a_session_that_ends_while_we_ask_is_not_there(
    small: SmallLogind, asker: Logind
) -> None:
    small.has("gone")
    small.has("1")

    assert [seat.where for seat in await asker.seats()] == ["seat0"]


async def test_without_a_bus_there_is_a_sentence_and_no_error(tmp_path: Path) -> None:
    logind = Logind(f"unix:path={tmp_path / 'nothing'}")

    assert await logind.seats() == ()
    (problem,) = logind.problems()
    assert problem.startswith("people at graphical seats are not seen: the system's message bus")


async def test_a_bus_without_logind_says_so(address: str, asker: Logind) -> None:
    assert await asker.seats() == ()
    assert NAME in asker.problems()[0]


async def test_when_logind_goes_nobody_can_tell_about_those_it_named(
    small: SmallLogind, address: str
) -> None:
    now = 1000.0
    asker = Logind(address, lambda: now)
    small.has("1")
    await asker.seats()
    sessions, small.sessions = small.sessions, {}
    await small._bus.release_name(NAME)

    (seat,) = await asker.seats()
    assert seat.idle_seconds is None

    small.sessions = sessions
    await small._bus.request_name(NAME)
    now += 60
    (seat,) = await asker.seats()
    assert seat.idle_seconds == 0
    assert asker.problems() == ()
    await asker.close()


async def test_seats_stand_beside_terminals(
    small: SmallLogind, address: str, tmp_path: Path
) -> None:
    small.has("1")
    (tmp_path / "pts").mkdir()
    settings = PeopleSettings(device_directory=tmp_path)
    terminals = RealTerminals(settings, logind=Logind(address))

    assert [seen.where for seen in await terminals.look()] == ["seat0"]
    await terminals.close()


async def test_a_bus_that_dies_is_survived(tmp_path: Path) -> None:
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address"]
    command += [f"--address=unix:path={tmp_path / 'bus'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout
        now = 1000.0
        asker = Logind(daemon.stdout.readline().strip(), lambda: now)
        await asker.seats()
        daemon.kill()
        daemon.wait()
    await asyncio.sleep(0)

    now += 60
    assert await asker.seats() == ()
    assert asker.problems() != ()
    await asker.close()
