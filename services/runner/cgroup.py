"""cgroup v2 for runs: who belongs to a run, killing all of them at once, and limits.

Runs live in `gleaner/RUN-…` at the top of the hierarchy, away from the agent's own unit, so that
stopping the agent does not stop them behind its back; below the agent's cgroup where the top may
not be written. A limit that cannot be set is a sentence, never an error.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from gleaner.settings import WorkloadSettings

_CONTROLLERS = ("cpu", "memory", "pids", "io")
_PERIOD = 100_000


@dataclass(frozen=True, kw_only=True)
class Cgroups:
    """A place in cgroup v2 where runs may have groups of their own."""

    mount: Path
    base: Path

    def make(self, name: str) -> Path:
        """Make the group of a run."""
        path = self.base / name
        path.mkdir(exist_ok=True)
        return path

    def supervisors(self) -> Path:
        """Make the group where supervisors live: never killed with a run, nor with the agent."""
        path = self.base / "supervisors"
        path.mkdir(exist_ok=True)
        return path

    def name(self, path: Path) -> str:
        """Return a group as /proc/PID/cgroup names it."""
        return "/" + str(path.relative_to(self.mount))

    def limit(self, path: Path, entry: WorkloadSettings) -> tuple[str, ...]:
        """Set the entry's limits; return those that could not be, each with its reason."""
        wanted = [("cpu weight", "cpu", "cpu.weight", str(entry.cpu_weight))]
        if entry.cpu_max_percent is not None:
            quota = f"{int(entry.cpu_max_percent / 100 * _PERIOD)} {_PERIOD}"
            wanted.append(("cpu limit", "cpu", "cpu.max", quota))
        if entry.memory_max_bytes is not None:
            text = str(entry.memory_max_bytes)
            wanted.append(("memory limit", "memory", "memory.max", text))
        if entry.processes_max is not None:
            wanted.append(("process limit", "pids", "pids.max", str(entry.processes_max)))
        found = [self._set(path, *one) for one in wanted]
        if entry.io_class == "idle":
            # Beside ionice, which says the same to the schedulers that understand it.
            self._set(path, "io weight", "io", "io.weight", "1")
        self._weigh_together(entry.cpu_weight)
        return tuple(problem for problem in found if problem is not None)

    def _set(self, path: Path, what: str, controller: str, file: str, text: str) -> str | None:
        if controller not in _words(path / "cgroup.controllers"):
            there = controller in _words(self.mount / "cgroup.controllers")
            why = "may not be used by us" if there else "is not in cgroup v2 here"
            return f"{what}: the {controller} controller {why}"
        try:
            (path / file).write_text(text)
        except OSError as error:
            return f"{what}: {error.strerror}"
        return None

    def _weigh_together(self, weight: int) -> None:
        """Against everybody else, all runs together weigh what their heaviest does."""
        with contextlib.suppress(OSError, ValueError):
            file = self.base / "cpu.weight"
            others = len([one for one in self.base.iterdir() if one.is_dir()]) > 2
            file.write_text(str(max(weight, int(file.read_text())) if others else weight))


def find(mountinfo: Path = Path("/proc/self/mountinfo")) -> Cgroups | None:
    """Return where runs may have groups, or None: no cgroup v2, too old, or not ours to write."""
    mount = _mount(mountinfo)
    if mount is None:
        return None
    for parent in (mount, mount / _own_group().lstrip("/")):
        base = parent / "gleaner"
        # Whoever moves a process must be able to write to the group above both places.
        if not os.access(parent / "cgroup.procs", os.W_OK):
            continue
        try:
            base.mkdir(exist_ok=True)
        except OSError:
            continue
        if not (base / "cgroup.kill").exists():  # Linux before 5.14
            return None
        for controller in _CONTROLLERS:
            for group in (parent, base):
                with contextlib.suppress(OSError):
                    (group / "cgroup.subtree_control").write_text(f"+{controller}")
        return Cgroups(mount=mount, base=base)
    return None


def processes(path: Path) -> list[int]:
    """Return the pids of a group and of those below it."""
    found: list[int] = []
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            found += [int(word) for word in _words(Path(folder, "cgroup.procs"))]
    return found


def kill(path: Path) -> bool:
    """Kill everybody in a group at once; False if that is not possible."""
    try:
        (path / "cgroup.kill").write_text("1")
    except OSError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove an empty group and those below it; one that is not empty yet stays."""
    for _ in range(20):
        try:
            for folder, _, _ in os.walk(path, topdown=False):
                os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError:
            # The kernel lets go of a group a moment after its last process.
            time.sleep(0.005)
        else:
            return


def _mount(mountinfo: Path) -> Path | None:
    with contextlib.suppress(OSError):
        for line in mountinfo.read_text().splitlines():
            fields, _, rest = line.partition(" - ")
            if rest.startswith("cgroup2 "):
                return Path(fields.split()[4])
    return None


def _own_group() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return line[3:]
    return "/"


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
