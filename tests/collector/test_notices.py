"""What the kernel tells of opens and input: asked of fanotify, of inotify and of what we choose."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.collector.interface import Notice, Notices
from services.collector.kernel.fanotify import Fanotify
from services.collector.kernel.inotify import InotifyNotices
from services.collector.kernel.notices import FirstThatCan, open_notices
from tests.builders import until
from tests.collector.pseudo_terminal import PseudoTerminal

pytestmark = pytest.mark.real

WAYS: dict[str, Callable[[], Notices]] = {
    "fanotify": Fanotify,
    "inotify": InotifyNotices,
    "chosen": open_notices,
}
NAMES_THE_PROCESS = ("fanotify", "chosen")


@pytest.fixture(params=WAYS)
async def notices(request: pytest.FixtureRequest) -> AsyncIterator[Notices]:
    made = WAYS[request.param]()
    yield made
    made.close()


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return make_device(tmp_path / "nvidia0")


def make_device(path: Path) -> Path:
    os.mknod(path, 0o20666, os.makedev(1, 7))
    return path


@contextmanager
def somebody_holding(device: Path) -> Iterator[int]:
    program = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(device)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid


def opens(device: Path) -> int:
    with somebody_holding(device) as pid:
        return pid


async def test_an_open_by_somebody_is_told(notices: Notices, device: Path) -> None:
    heard: list[Notice] = []
    assert notices.watch_opens(device, heard.append)
    before = time.monotonic_ns()

    pid = opens(device)

    await until(lambda: bool(heard))
    assert heard[0].path == device
    assert heard[0].by == notices.by
    assert before < heard[0].noticed_ns < time.monotonic_ns()
    assert heard[0].pid == (pid if notices.by == "fanotify" else None)


async def test_a_device_that_is_reached_by_a_link_is_heard(notices: Notices, device: Path) -> None:
    heard, link = list[Notice](), device.with_name("link")
    link.symlink_to(device)
    assert notices.watch_opens(link, heard.append)

    opens(device)

    await until(lambda: bool(heard))
    assert heard[0].path == link


async def test_two_who_open_at_the_same_time_are_both_named(tmp_path: Path) -> None:
    notices, device, heard = Fanotify(), make_device(tmp_path / "nvidia0"), list[Notice]()
    notices.watch_opens(device, heard.append)

    with somebody_holding(device) as one, somebody_holding(device) as other:
        await until(lambda: {notice.pid for notice in heard} == {one, other})
    notices.close()


async def test_what_we_open_ourselves_is_not_told(tmp_path: Path) -> None:
    notices, device, heard = Fanotify(), make_device(tmp_path / "nvidia0"), list[Notice]()
    notices.watch_opens(device, heard.append)

    os.close(os.open(device, os.O_RDONLY))
    pid = opens(device)

    await until(lambda: bool(heard))
    assert [notice.pid for notice in heard] == [pid]
    notices.close()


async def test_without_root_opens_are_told_but_not_by_whom(device: Path) -> None:
    os.seteuid(65534)
    try:
        notices = Fanotify()
    finally:
        os.seteuid(0)
    heard: list[Notice] = []
    assert notices.watch_opens(device, heard.append)

    opens(device)

    await until(lambda: bool(heard))
    assert heard[0].pid is None
    notices.close()


async def test_a_key_read_by_a_shell_is_told(notices: Notices) -> None:
    heard: list[Notice] = []
    with PseudoTerminal() as terminal:
        assert notices.watch_reads(terminal.path, heard.append)

        terminal.types()

        await until(lambda: bool(heard))
        assert heard[0].path == terminal.path
        assert heard[0].pid == (terminal.pid if notices.by == "fanotify" else None)


async def test_output_alone_is_not_told(notices: Notices, device: Path) -> None:
    heard, after = list[Notice](), list[Notice]()
    with PseudoTerminal() as terminal:
        notices.watch_reads(terminal.path, heard.append)
        notices.watch_opens(device, after.append)

        with terminal.path.open("w") as screen:
            screen.write("a long build says something\n")
        await until(lambda: terminal.shows("a long build"))
        opens(device)

        await until(lambda: bool(after))
        assert heard == []


async def test_a_terminal_that_somebody_makes_is_told(notices: Notices) -> None:
    heard: list[Notice] = []
    assert notices.watch_made(Path("/dev/pts"), heard.append)

    command = ["script", "-qc", "true", "/dev/null"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as login:
        await until(lambda: bool(heard))

    assert heard[0].path == Path("/dev/pts")
    if notices.by == "fanotify":
        await until(lambda: login.pid in [notice.pid for notice in heard])


async def test_a_device_node_that_was_replaced_is_watched_again(
    notices: Notices, device: Path
) -> None:
    heard: list[Notice] = []
    notices.watch_opens(device, heard.append)
    device.unlink()
    make_device(device)

    assert notices.watch_opens(device, heard.append)
    opens(device)

    await until(lambda: bool(heard))


async def test_a_terminal_whose_number_is_used_again_is_watched_again(notices: Notices) -> None:
    heard: list[Notice] = []
    with PseudoTerminal() as first:
        notices.watch_reads(first.path, heard.append)
    async with asyncio.timeout(10):
        while True:  # Somebody else on this machine may take the number in between.
            with PseudoTerminal() as second:
                if second.path == first.path:
                    notices.watch_reads(second.path, heard.append)
                    second.types()
                    await until(lambda: bool(heard))
                    return
            await asyncio.sleep(0.01)


async def test_watching_twice_tells_once(notices: Notices, device: Path) -> None:
    first, second, after = list[Notice](), list[Notice](), list[Notice]()
    other = make_device(device.with_name("nvidia1"))
    notices.watch_opens(device, first.append)
    notices.watch_opens(device, second.append)
    notices.watch_opens(other, after.append)

    opens(device)
    opens(other)

    await until(lambda: bool(after))
    assert (len(first), len(second)) == (0, 1)


async def test_what_is_unwatched_is_not_told(notices: Notices, device: Path) -> None:
    heard, after = list[Notice](), list[Notice]()
    other = make_device(device.with_name("nvidia1"))
    notices.watch_opens(device, heard.append)
    notices.watch_opens(other, after.append)

    notices.unwatch(device)
    opens(device)
    opens(other)

    await until(lambda: bool(after))
    assert heard == []


async def test_what_is_not_there_cannot_be_watched_and_does_no_harm(
    notices: Notices, tmp_path: Path
) -> None:
    assert not notices.watch_opens(tmp_path / "nvidia7", lambda _: None)
    notices.unwatch(tmp_path / "nvidia7")


async def test_a_queue_that_overflowed_calls_everybody(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Path("/proc/sys/fs/fanotify/max_queued_events")
    before = lines.read_text()
    lines.write_text("2")
    notices, opened, typed = Fanotify(), list[Notice](), list[Notice]()
    lines.write_text(before)
    other = make_device(device.with_name("nvidia1"))
    notices.watch_opens(device, opened.append)
    notices.watch_opens(other, typed.append)

    for _ in range(4):
        opens(device)

    await until(lambda: bool(typed))
    assert typed[0].pid is None
    notices.close()


async def test_without_any_way_nothing_is_heard_and_that_is_said(device: Path) -> None:
    notices = FirstThatCan()

    assert not notices.watch_opens(device, lambda _: None)
    assert (notices.by, notices.reads_by) == ("check", "check")
    notices.close()


async def test_here_fanotify_hears_opens_and_input() -> None:
    notices = open_notices()

    assert (notices.by, notices.reads_by) == ("fanotify", "fanotify")
    notices.close()


async def test_one_way_that_refuses_a_path_leaves_it_to_the_next(device: Path) -> None:
    class Refuses(Fanotify):
        def watch_opens(self, path: Path, handler: Callable[[Notice], None]) -> bool:
            return False

    notices, heard = FirstThatCan(Refuses(), InotifyNotices()), list[Notice]()

    assert notices.watch_opens(device, heard.append)
    opens(device)

    await until(lambda: bool(heard))
    assert heard[0].by == "inotify"
    notices.close()
