"""What gpu_mon did, over the whole system: all GPUs at once, some, one each; people who type."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gleaner.bus.messages import Blockers, Inventory, People, Run
from tests.collector.pseudo_terminal import PseudoTerminal
from tests.python import python_for_others
from tests.system import Stranger, System, environment_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

DAEMON, NOBODY = 1, 65534


def placed(system: System) -> dict[str, set[int]]:
    """Return by entry the GPUs, by index, that its runs have now."""
    index = {gpu.gpu: gpu.index for fact in system.facts(Inventory) for gpu in fact.gpus}
    found: dict[str, set[int]] = {}
    for run in system.runs():
        found.setdefault(run.entry, set()).update(index[gpu] for gpu in run.gpus)
    return found


@contextmanager
def strangers(count: int) -> Iterator[list[Stranger]]:
    """Other people's processes."""
    found = [Stranger() for _ in range(count)]
    try:
        yield found
    finally:
        for stranger in found:
            stranger.end()


async def test_one_over_all_gives_way_to_one_over_two_and_that_to_one_each(
    common_path: Path,
) -> None:
    told = common_path / "told"
    command = f"{python_for_others()} {common_path / 'workload.py'} {told}"
    workloads = "".join(
        f'[[workload]]\nname = "{name}"\ncommand = "{command}"\ngpus = {gpus}\n'
        f'directory = "{common_path}"\n'
        for name, gpus in (("whole", '"all"'), ("pair", "[0, 1]"), ("single", '"each"'))
    )
    # Half a second, so that all three GPUs are known before any of them is given away.
    scheduler = "gpu_idle_seconds = 0.5"
    async with System(common_path, gpus=3, workloads=workloads, scheduler=scheduler) as system:
        with strangers(2) as (first, second):
            await system.until(lambda: placed(system) == {"whole": {0, 1, 2}})
            (whole,) = system.runs()
            assert whole.pid
            assert environment_of(whole.pid)["CUDA_VISIBLE_DEVICES"] == "0,1,2"
            assert os.readlink(f"/proc/{whole.pid}/cwd") == str(common_path)

            first.open(system.devices[2])
            await system.until(lambda: placed(system) == {"pair": {0, 1}})
            (pair,) = system.runs()
            assert pair.pid
            assert environment_of(pair.pid)["CUDA_VISIBLE_DEVICES"] == "0,1"

            second.open(system.devices[0])
            await system.until(lambda: placed(system) == {"single": {1}})
            (single,) = system.runs()

            # What runs is not stopped to make room for what comes first in the file.
            first.close(system.devices[2])
            second.close(system.devices[0])
            await system.until(lambda: placed(system) == {"single": {0, 1, 2}})
            assert single.run in {run.run for run in system.runs()}
            began = [run.run for run in system.said(Run) if run.state == "starting"]
            assert len(set(began)) == 5, "each was started once"


@contextmanager
def terminal_of(user_id: int, directory: Path) -> Iterator[PseudoTerminal]:
    """A terminal of another user, the only one in a device directory of its own."""
    with PseudoTerminal() as terminal:
        os.chown(terminal.path, user_id, 5)
        (directory / "pts").mkdir(parents=True, exist_ok=True)
        (directory / "pts" / terminal.path.name).symlink_to(terminal.path)
        be_away(terminal)
        yield terminal


def be_away(terminal: PseudoTerminal) -> None:
    """Have the terminal look unused for an hour; Linux would take eight seconds for one."""
    then = time.time() - 3600
    os.utime(terminal.path, (then, then))


async def test_who_types_gets_the_machine_unless_on_the_whitelist(common_path: Path) -> None:
    seen = common_path / "seen"
    people = f'device_directory = "{seen}"\nseats = false\nidle_seconds = 2\nwhitelist = ["nobody"]'
    with terminal_of(DAEMON, seen) as typist, terminal_of(NOBODY, seen) as monitor:
        async with System(common_path, people=people) as system:
            await system.until(lambda: len(system.runs()) == 2)
            runs = system.runs()

            monitor.types()
            await system.until(lambda: is_typing(system, monitor.where))
            assert {run.run for run in system.runs()} == {run.run for run in runs}

            typist.types()
            await system.until(lambda: not system.runs())
            why = f"daemon is active at {typist.where}"
            await system.until(lambda: {run.state for run in system.facts(Run)} == {"evicted"})
            assert {run.reason for run in system.facts(Run)} == {f"evicted: {why}"}
            assert all(system.told_to_leave(run.run) for run in runs)
            await system.until(lambda: is_said(system, why))

            be_away(typist)
            await system.until(lambda: len(system.runs()) == 2)
            assert not {run.run for run in system.runs()} & {run.run for run in runs}


def is_typing(system: System, where: str) -> bool:
    """Whether somebody at a place is said to be active, counting or not."""
    people = (person for fact in system.facts(People) for person in fact.people)
    return any(person.where == where and person.active for person in people)


def is_said(system: System, text: str) -> bool:
    """Whether this is the reason why nothing starts on any GPU."""
    found = [gpu for fact in system.facts(Blockers) for gpu in fact.gpus]
    return bool(found) and all(text in {one.text for one in gpu.blockers} for gpu in found)
