"""Real processes of another user that hold real device nodes open."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.collector.processes.procfs import (
    SETTLED_SECONDS,
    ProcfsProcesses,
    can_see_others,
    newest_first,
)
from tests.builders import until
from tests.python import python_for_others

pytestmark = pytest.mark.real

NOBODY = 65534
LONG_SECONDS = 60.0
"""More than any pass takes."""
HOLD = "import sys,time; f = open(sys.argv[1]); print(flush=True); time.sleep(600)"
OPEN_LATER = """
import signal, sys
print(flush=True); input(); f = open(sys.argv[1]); print(flush=True); signal.pause()
"""
OPEN_IN_A_THREAD = """
import signal, sys, threading
def work():
    global f
    print(flush=True); input(); f = open(sys.argv[1]); print(flush=True); signal.pause()
threading.Thread(target=work).start()
"""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def device(common_path: Path) -> Path:
    path = common_path / "nvidia0"
    os.mknod(path, 0o666 | 0o020000, os.makedev(1, 7))
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def run(*words: str | Path, **options: object) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]
        )
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


@pytest.fixture
def hold(start: Start) -> Callable[..., int]:
    """Have somebody open a path and keep it open; return their pid."""

    def hold(path: Path, **options: object) -> int:
        options = {"user": NOBODY, "group": NOBODY} | options
        process = start(python_for_others(), "-c", HOLD, path, **options)
        assert process.stdout
        process.stdout.readline()
        return process.pid

    return hold


@pytest.fixture
def processes(device: Path) -> ProcfsProcesses:
    processes = ProcfsProcesses()
    processes.watch({"GPU-0": device})
    return processes


async def test_a_pass_finds_who_holds_a_device(
    processes: ProcfsProcesses, device: Path, hold: Callable[..., int]
) -> None:
    pid = hold(device)

    processes.scan(LONG_SECONDS, hurry=True)

    assert pid in processes.holders()["GPU-0"]


async def test_a_device_is_known_by_its_number_under_any_name(
    processes: ProcfsProcesses, device: Path, hold: Callable[..., int]
) -> None:
    other = device.parent / "container"
    other.mkdir()
    os.mknod(other / "nvidia0", 0o666 | 0o020000, os.makedev(1, 7))

    assert processes.holds(hold(other / "nvidia0")) == {"GPU-0"}


async def test_another_device_of_the_same_name_is_not_ours_to_watch(
    processes: ProcfsProcesses, device: Path, hold: Callable[..., int]
) -> None:
    other = device.parent / "other"
    other.mkdir()
    os.mknod(other / "nvidia0", 0o666 | 0o020000, os.makedev(1, 8))

    assert processes.holds(hold(other / "nvidia0")) == frozenset()


async def test_who_has_let_go_is_no_holder(
    processes: ProcfsProcesses, device: Path, hold: Callable[..., int]
) -> None:
    pid = hold(device)
    assert processes.holds(pid) == {"GPU-0"}
    os.kill(pid, 9)

    await until(lambda: pid not in processes.holders().get("GPU-0", ()))

    assert processes.identify(pid) is None


async def test_the_first_pass_is_new_until_it_is_through_in_however_many_slices(
    processes: ProcfsProcesses, device: Path, hold: Callable[..., int]
) -> None:
    pid, slices = hold(device), 0
    processes.scan(LONG_SECONDS)
    processes.watch({"GPU-1": device})

    while processes.is_new:
        processes.scan(0.0001)
        slices += 1

    assert slices > 1
    assert pid in processes.holders()["GPU-1"]


@pytest.mark.parametrize("opens", [OPEN_LATER, OPEN_IN_A_THREAD])
async def test_who_slept_when_it_was_looked_at_is_found_when_it_has_woken(
    processes: ProcfsProcesses, device: Path, start: Start, opens: str
) -> None:
    sleeper = start(python_for_others(), "-c", opens, device, stdin=subprocess.PIPE)
    assert sleeper.stdin
    assert sleeper.stdout
    sleeper.stdout.readline()
    await asyncio.sleep(SETTLED_SECONDS)  # What follows is about the time since it ran last.
    for _ in range(2):
        processes.scan(LONG_SECONDS, hurry=True)
        assert sleeper.pid not in processes.holders().get("GPU-0", ())
        await asyncio.sleep(SETTLED_SECONDS)

    sleeper.stdin.write(b"\n")
    sleeper.stdin.close()
    sleeper.stdout.readline()
    processes.scan(LONG_SECONDS, hurry=True)

    assert sleeper.pid in processes.holders()["GPU-0"]


def test_the_newest_processes_come_first_also_after_the_highest_pid() -> None:
    assert newest_first([2, 31_000, 5, 32_000, 7], 7) == [7, 5, 2, 32_000, 31_000]


async def test_a_search_begins_with_the_newest_each_time_and_ends_when_it_is_enough(
    processes: ProcfsProcesses, device: Path, hold: Callable[..., int]
) -> None:
    older, newer = hold(device), hold(device)
    processes.scan(LONG_SECONDS, hurry=True)
    heard: list[int] = []

    def hear(pid: int, held: frozenset[str]) -> bool:
        assert held == {"GPU-0"}
        heard.append(pid)
        return pid == newer

    processes.scan(LONG_SECONDS, hear, hurry=True)
    processes.scan(LONG_SECONDS, hear, hurry=True)

    assert heard == [newer, newer]
    assert older in processes.holders()["GPU-0"]


async def test_a_pass_in_small_steps_is_complete_in_time(
    processes: ProcfsProcesses,
    device: Path,
    hold: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.collector.processes.procfs.PASS_SECONDS", 0.2)
    processes.scan(0.005)
    pid = hold(device)
    longest = 0.0

    def look() -> bool:
        nonlocal longest
        started = time.perf_counter()
        processes.scan(0.005)
        longest = max(longest, time.perf_counter() - started)
        return pid in processes.holders().get("GPU-0", ())

    await until(look, 2)

    assert longest < 0.05


async def test_identity_names_user_program_and_script(
    start: Start, common_path: Path, processes: ProcfsProcesses
) -> None:
    script = common_path / "train.py"
    script.write_text("import time; time.sleep(600)")
    child = start(python_for_others(), script, "--key", "secret", user=NOBODY, env={
        "GLEANER_RUN_TOKEN": "token-1",
    })  # fmt: skip
    # The new program shows when exec is through.
    await until(lambda: "train.py" in getattr(processes.identify(child.pid), "command", ""))
    await until(lambda: getattr(processes.identify(child.pid), "user", None) is not None)

    process = processes.identify(child.pid)

    assert process
    assert process.user_id == NOBODY
    assert process.user == "nobody"
    assert process.command == f"{Path(python_for_others()).name} {script}"
    assert process.program.startswith("python")
    assert process.parent_pid == os.getpid()
    assert process.token == "token-1"
    assert process.cgroup is None or process.cgroup.startswith("/")
    assert abs(process.started_at.timestamp() - time.time()) < 20


async def test_all_arguments_are_shown_only_on_request(start: Start) -> None:
    child = start("sleep", "600")
    full = ProcfsProcesses("full")

    await until(lambda: getattr(full.identify(child.pid), "command", "") == "sleep 600")

    shown = ProcfsProcesses().identify(child.pid)
    assert shown
    assert (shown.command, shown.program) == ("sleep", "sleep")


async def test_a_long_name_is_read_in_full(
    start: Start, common_path: Path, processes: ProcfsProcesses
) -> None:
    program = common_path / "nvidia-persistenced"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    child = start(program, "600")

    await until(
        lambda: getattr(processes.identify(child.pid), "program", "") == "nvidia-persistenced"
    )


async def test_a_script_started_by_its_name_is_the_program(
    start: Start, common_path: Path, processes: ProcfsProcesses
) -> None:
    script = common_path / "nvitop"
    script.write_text(f"#!{python_for_others()}\nimport time; time.sleep(600)\n")
    script.chmod(0o755)
    child = start(script, "-1")

    await until(lambda: getattr(processes.identify(child.pid), "program", "") == "nvitop")


async def test_a_user_id_without_a_name_is_no_trouble(
    start: Start, processes: ProcfsProcesses
) -> None:
    child = start("sleep", "600", user=54321)
    await until(lambda: getattr(processes.identify(child.pid), "user_id", 0) == 54321)

    process = processes.identify(child.pid)

    assert process
    assert process.user is None


def test_a_pid_that_is_not_there_is_none(processes: ProcfsProcesses) -> None:
    assert processes.identify(2**22 + 5) is None
    assert processes.holds(2**22 + 5) == frozenset()


def test_root_sees_everybody_and_nobody_does_not() -> None:
    assert ProcfsProcesses().sees_others

    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os._exit(0 if not can_see_others() else 1)

    assert os.waitpid(child, 0)[1] == 0


async def test_a_name_cannot_steer_the_terminal_that_shows_it(
    processes: ProcfsProcesses, start: Start
) -> None:
    program = start("\x1b[31m\nERROR", "-c", "input()", executable="/usr/bin/python3", stdin=-1)

    def command() -> str | None:
        found = processes.identify(program.pid)
        return None if found is None else found.command

    # Its words show a moment after the program was started.
    await until(lambda: command() == "?[31m?ERROR")
    assert program.stdin
    program.stdin.close()
