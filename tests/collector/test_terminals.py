"""Who is logged in where: real pseudo-terminals, and a device directory of our own."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gleaner.settings import PeopleSettings
from services.collector.interface import Terminal
from services.collector.people.terminals import RealTerminals
from tests.builders import until
from tests.collector.pseudo_terminal import PseudoTerminal

pytestmark = pytest.mark.real

NOBODY = pwd.getpwnam("nobody").pw_uid
A_UID_WITHOUT_A_NAME = 3_456_789


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    (tmp_path / "pts").mkdir()
    return tmp_path


def terminal(path: Path, owner: int, idle: float = 0, minor: int = 7) -> Path:
    os.mknod(path, 0o20620, os.makedev(4 if path.name.startswith("tty") else 1, minor))
    os.chown(path, owner, owner)
    os.utime(path, (time.time() - idle, time.time()))
    return path


async def look(devices: Path, *, now: float | None = None) -> tuple[Terminal, ...]:
    settings = PeopleSettings(device_directory=devices, seats=False)
    terminals = RealTerminals(settings, clock=time.time if now is None else lambda: now)
    return await terminals.look()


async def test_a_real_terminal_has_an_owner_and_a_path_and_is_active_from_the_start() -> None:
    with PseudoTerminal() as pseudo:
        (found,) = [seen for seen in await look(Path("/dev")) if seen.where == pseudo.where]

        assert found == Terminal(
            where=pseudo.where, user_id=0, user="root", idle_seconds=0.0, path=pseudo.path
        )


async def test_typing_is_seen_in_the_access_time_and_output_is_not() -> None:
    with PseudoTerminal() as pseudo:
        hour_ago = time.time() - 3600
        os.utime(pseudo.path, (hour_ago, hour_ago))
        with pseudo.path.open("w") as screen:
            screen.write("a long build says something\n")

        async def idle() -> float | None:
            seen = {one.where: one for one in await look(Path("/dev"))}
            return seen[pseudo.where].idle_seconds

        before = await idle()
        pseudo.types()
        await until(lambda: pseudo.shows("x\r\nx"))
        after = await idle()

        assert before is not None
        assert before > 3500
        assert after == 0.0


async def test_a_person_never_counts_as_gone_too_early(devices: Path) -> None:
    path = terminal(devices / "pts" / "3", NOBODY)
    accessed = path.stat().st_atime

    (found,) = await look(devices, now=accessed + 27)

    # Linux may have moved the access time up to eight seconds before the last key.
    assert found.idle_seconds == pytest.approx(19)


async def test_ptmx_and_what_is_no_terminal_are_left_out(devices: Path) -> None:
    terminal(devices / "pts" / "ptmx", 0)
    (devices / "pts" / "4").write_text("a file")
    terminal(devices / "pts" / "10", NOBODY)
    terminal(devices / "pts" / "9", NOBODY)

    assert [found.where for found in await look(devices)] == ["pts/9", "pts/10"]


async def test_a_user_without_a_name_is_shown_by_number(devices: Path) -> None:
    terminal(devices / "pts" / "3", A_UID_WITHOUT_A_NAME)

    (found,) = await look(devices)

    assert (found.user_id, found.user) == (A_UID_WITHOUT_A_NAME, None)


async def test_a_terminal_that_vanishes_is_not_there(devices: Path) -> None:
    (devices / "pts" / "3").symlink_to(devices / "gone")
    terminal(devices / "pts" / "4", NOBODY)

    assert [found.where for found in await look(devices)] == ["pts/4"]


async def test_a_console_counts_when_somebody_is_logged_in(devices: Path) -> None:
    terminal(devices / "tty2", NOBODY, minor=2)
    terminal(devices / "tty3", 0, minor=63)
    terminal(devices / "tty0", NOBODY, minor=0)
    terminal(devices / "ttyS0", NOBODY, minor=64)

    assert [found.where for found in await look(devices)] == ["tty2"]


async def test_roots_console_counts_when_more_than_a_getty_is_there(devices: Path) -> None:
    with PseudoTerminal("cat") as pseudo:
        # A console of root's that is bound to `cat`: the same device number stands in for it.
        number = pseudo.path.stat().st_rdev
        os.mknod(devices / "tty5", 0o20600, number)
        take = "import fcntl, os, termios, sys; os.setsid(); fcntl.ioctl(os.open(sys.argv[1], 2), "
        take += "termios.TIOCSCTTY, 1); print(flush=True); sys.stdin.read()"
        assert await look(devices) == ()

        command = [sys.executable, "-c", take, str(pseudo.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
            assert shell.stdout
            shell.stdout.readline()
            found = await look(devices)

        assert [seen.where for seen in found] == ["tty5"]


async def test_a_place_without_terminals_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="pts"):
        await look(tmp_path)
