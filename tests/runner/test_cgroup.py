"""What is written into a run's group where the kernel lets us have the controllers.

Files of a folder stand in for those of the kernel (its admin-guide/cgroup-v2.rst says what it
takes): a machine whose controllers are in cgroup v1 has none to show.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gleaner.settings import WorkloadSettings
from services.runner.cgroup import Cgroups, find
from tests.runner.rig import workload

ALL = "cpu memory pids io"


def a_group(directory: Path, controllers: str = ALL) -> tuple[Cgroups, Path]:
    """Return a hierarchy and the group of a run in it."""
    groups = Cgroups(mount=directory, base=directory / "gleaner")
    groups.base.mkdir()
    (directory / "cgroup.controllers").write_text(ALL)
    (groups.base / "cpu.weight").write_text("100")
    run = groups.make("r1")
    (run / "cgroup.controllers").write_text(controllers)
    return groups, run


def limited(**limits: object) -> WorkloadSettings:
    """Return an entry with limits."""
    return workload("sleep 1", **limits)


def written(run: Path) -> dict[str, str]:
    """Return what was written into a run's group."""
    return {
        path.name: path.read_text() for path in run.iterdir() if path.name != "cgroup.controllers"
    }


def test_every_limit_is_written_as_the_kernel_takes_it(tmp_path: Path) -> None:
    groups, run = a_group(tmp_path)
    entry = limited(cpu_weight=20, cpu_max_percent=250, memory_max_bytes=2**30, processes_max=64)

    assert groups.limit(run, entry) == ()
    assert written(run) == {
        "cpu.weight": "20", "cpu.max": "250000 100000", "memory.max": "1073741824",
        "pids.max": "64", "io.weight": "1",
    }  # fmt: skip


def test_what_is_not_limited_is_left_alone(tmp_path: Path) -> None:
    groups, run = a_group(tmp_path)

    assert groups.limit(run, limited(io_class="best-effort")) == ()
    assert written(run) == {"cpu.weight": "10"}


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("cpu", ("cpu weight", "cpu limit")),
        ("memory", ("memory limit",)),
        ("pids", ("process limit",)),
        # ionice says the same, so nobody misses it.
        ("io", ()),
    ],
)
def test_a_controller_that_we_may_not_use_is_named(
    tmp_path: Path, missing: str, said: tuple[str, ...]
) -> None:
    groups, run = a_group(tmp_path, ALL.replace(missing, ""))
    entry = limited(cpu_max_percent=50, memory_max_bytes=2**30, processes_max=64)

    assert groups.limit(run, entry) == tuple(
        f"{limit}: the {missing} controller may not be used by us" for limit in said
    )


def test_all_runs_together_weigh_what_the_heaviest_does(tmp_path: Path) -> None:
    groups, run = a_group(tmp_path)
    groups.supervisors()
    groups.limit(run, limited(cpu_weight=30))
    # Alone, it decides; what was there before it is of runs that are gone.
    assert (groups.base / "cpu.weight").read_text() == "30"

    other = groups.make("r2")
    (other / "cgroup.controllers").write_text(ALL)
    groups.limit(other, limited(cpu_weight=10))
    assert (groups.base / "cpu.weight").read_text() == "30"


def test_where_cgroup_v2_is_not_mounted_there_are_no_groups(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")

    assert find(mounts) is None
