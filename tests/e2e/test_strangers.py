"""What other users of the machine can do with the files and processes of `gleaner up`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import folder_for_all
from tests.e2e.up import Up
from tests.python import NOBODY
from tests.system import environment_of

pytestmark = pytest.mark.e2e

ANYBODYS = {"broker/endpoint.json", "keys/scheduler.pub", "node/beat"}
"""Where the broker is, the public key, and that the node lives; beside `health/`."""


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    # As careless as it can be.
    with folder_for_all() as directory, Up(directory, umask=0) as system:
        system.wait(lambda: system.page("/api/events"), 30, "the recorder answers")
        system.wait(lambda: system.workloads(), 30, "the workload runs")
        yield system


def found_by_nobody(up: Up, *test: str) -> set[str]:
    """Return what `find` finds below the data directory as an ordinary user."""
    data = up.directory / "data"
    found = subprocess.run(
        ["find", data, *test],
        user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return {str(Path(line).relative_to(data)) for line in found.stdout.splitlines()}


def test_others_read_only_what_is_meant_for_them(up: Up) -> None:
    readable = found_by_nobody(up, "-type", "f", "-readable")

    assert {name for name in readable if not name.startswith("health/")} == ANYBODYS


def test_others_write_to_the_pause_folder_alone(up: Up) -> None:
    assert found_by_nobody(up, "-writable", "-not", "-type", "l") == {"pause"}


def test_passwords_stand_in_no_command_line_environment_log_or_answer(up: Up) -> None:
    data = up.directory / "data"
    secrets = {file.read_text().strip() for file in data.rglob("*.password")}
    (workload,) = up.workloads()
    environment = environment_of(workload)
    processes = [
        Path(f"/proc/{pid}/{file}").read_text()
        for pid in up.pids()
        for file in ("cmdline", "environ")
    ]
    said = ["\n".join(up.lines)]
    said += [(up.page(path) or b"").decode() for path in ("/", "/api/fleet", "/api/events")]

    assert len(secrets) == 5
    assert not [text for text in processes + said if any(secret in text for secret in secrets)]
    assert not [text for text in said if environment["GLEANER_RUN_TOKEN"] in text]


def test_others_cannot_hold_our_locks(up: Up) -> None:
    data = up.directory / "data"
    locks = [data / "up.lock", data / "scheduler" / "lock", data / "node" / "runner.lock"]

    for lock in locks:
        assert lock.exists()
        assert subprocess.run(
            ["flock", "--nonblock", lock, "true"],
            user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", stderr=subprocess.DEVNULL,
            check=False,
        ).returncode not in (0, 1), "66: it cannot be opened; 1: it is held"  # fmt: skip


def test_nobody_moves_a_process_into_the_cgroup_of_a_run(up: Up) -> None:
    (workload,) = up.workloads()
    lines = Path(f"/proc/{workload}/cgroup").read_text().splitlines()
    name = next((line[3:] for line in lines if line.startswith("0::")), "")
    mounts = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    groups = [path for mount in mounts if (path := Path(f"{mount}{name}/cgroup.procs")).exists()]

    for group in groups:
        moved = subprocess.run(
            ["sh", "-c", f"echo 0 > {group}"],
            user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", stderr=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        assert moved.returncode != 0
