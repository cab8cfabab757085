"""How a real workload finds itself: directory, user, environment, output, priorities."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import until
from tests.disks import small_disk
from tests.python import python_for_others
from tests.runner.rig import Rig, is_alive, people, workload

pytestmark = pytest.mark.real

REPORT = """
import json, os, signal, subprocess, sys
print(json.dumps({
    "environment": dict(os.environ), "directory": os.getcwd(), "nice": os.nice(0),
    "user": os.getuid(), "group": os.getgid(), "groups": sorted(os.getgroups()),
    "session": os.getsid(0) == os.getpid(), "umask": os.umask(0),
    "stdin": os.readlink("/proc/self/fd/0"), "files": sorted(os.listdir("/proc/self/fd")),
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "ignored": [n for n in ("SIGTERM", "SIGPIPE", "SIGHUP")
                if signal.getsignal(getattr(signal, n)) == signal.SIG_IGN and n != "SIGPIPE"],
    "oom": open("/proc/self/oom_score_adj").read().strip(),
    "disk": subprocess.check_output(["ionice"], text=True).strip(),
}))
"""


TALK = """
import os, time
for number in range(40):
    os.write(1, b"%4d " % number * 200)
    time.sleep(0.005)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter, as pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="gleaner-test-") as found:
        path = Path(found)
        path.chmod(0o755)
        yield path


async def report(data: Path, place: Path, **entry: object) -> dict[str, object]:
    """Run a program that says how it finds itself; return that."""
    script, log = place / "report.py", place / "report.log"
    script.write_text(REPORT)
    command = f"{python_for_others()} -I -S {script}"
    async with Rig(data, workload(command, log=log, directory=place, **entry)).running() as rig:
        rig.wish(rig.grant("r1", "GPU-1"))
        rig.beat()
        fact = await rig.is_over()
        assert fact.reason == "succeeded: ended by itself with exit status 0"
    found: dict[str, object] = json.loads(log.read_text().splitlines()[-1])
    return found


async def test_it_has_the_full_environment_and_its_gpu(tmp_path: Path, place: Path) -> None:
    found = (await report(tmp_path, place))["environment"]
    assert isinstance(found, dict)

    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert (found["PATH"], found["HOME"]) == (os.environ["PATH"], os.environ["HOME"])
    assert len(found["GLEANER_RUN_TOKEN"]) == 32


async def test_it_finds_a_clean_start(tmp_path: Path, place: Path) -> None:
    found = await report(tmp_path, place, nice=7)

    expected = {
        "directory": str(place), "nice": 7, "session": True, "umask": 0o022, "blocked": [],
        "ignored": [], "stdin": "/dev/null", "files": ["0", "1", "2", "3"], "oom": "1000",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


async def test_it_runs_as_its_user_with_his_groups_and_home(tmp_path: Path, place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    found = await report(tmp_path, place, user="nobody")
    environment = found["environment"]
    assert isinstance(environment, dict)

    assert (found["user"], found["group"], found["groups"]) == (
        nobody.pw_uid,
        nobody.pw_gid,
        os.getgrouplist("nobody", nobody.pw_gid),
    )
    assert (environment["HOME"], environment["USER"]) == (nobody.pw_dir, "nobody")


async def test_it_yields_to_others_unless_its_entry_says_otherwise(
    tmp_path: Path, place: Path
) -> None:
    modest = await report(tmp_path / "1", place)
    assert (modest["nice"], modest["disk"]) == (19, "idle")

    eager = await report(tmp_path / "2", place, nice=0, io_class="best-effort")
    assert (eager["nice"], str(eager["disk"]).partition(":")[0]) == (0, "best-effort")


async def test_its_command_is_split_as_a_shell_would(tmp_path: Path, place: Path) -> None:
    log = place / "out.log"
    async with Rig(tmp_path, workload("""sh -c "echo 'a b'  c" """, log=log)).running() as rig:
        await rig.launched_and_over()

    assert log.read_text() == "a b c\n"


async def test_its_log_is_appended_with_output_and_errors(tmp_path: Path, place: Path) -> None:
    log = place / "out.log"
    log.write_text("from before\n")
    command = """sh -c 'echo out; echo err >&2'"""
    async with Rig(tmp_path, workload(command, log=log)).running() as rig:
        await rig.launched_and_over("r1")
        await rig.launched_and_over("r2")

    assert log.read_text() == "from before\n" + "out\nerr\n" * 2


async def test_a_new_log_belongs_to_the_workloads_user(tmp_path: Path, place: Path) -> None:
    log = place / "out.log"
    async with Rig(tmp_path, workload("echo hello", log=log, user="nobody")).running() as rig:
        await rig.launched_and_over()

    assert (log.owner(), log.read_text()) == ("nobody", "hello\n")


async def test_its_log_is_there_before_it_says_anything(tmp_path: Path, place: Path) -> None:
    log = place / "out.log"
    async with Rig(tmp_path, workload("sleep 1000", log=log, user="nobody")).running() as rig:
        await rig.launched()
        await until(log.exists)
        await until(lambda: log.owner() == "nobody")

    assert log.read_text() == ""


async def test_its_log_is_rotated_by_size(tmp_path: Path, place: Path) -> None:
    log = place / "out.log"
    script = place / "talk.py"
    script.write_text(TALK)
    command = f"{python_for_others()} -I -S {script}"
    entry = workload(command, log=log, log_max_bytes=8192, log_keep=2)
    async with Rig(tmp_path, entry).running() as rig:
        await rig.launched_and_over()

    files = sorted(path.name for path in place.glob("out.log*"))
    assert files == ["out.log", "out.log.1", "out.log.2"]
    assert all((place / name).stat().st_size <= 8192 for name in files)
    assert log.read_text().endswith("  39 ")


async def test_a_log_that_is_a_device_is_left_where_it_is(tmp_path: Path, place: Path) -> None:
    # As `log=/dev/null` in the example of gpu_mon; one of our own, should this fail.
    null = place / "null"
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    entry = workload("head -c 100000 /dev/zero", log=null, log_max_bytes=4096)
    async with Rig(tmp_path, entry).running() as rig:
        await rig.launched_and_over()

    assert [path.name for path in place.iterdir()] == ["null"]
    assert null.is_char_device()


async def test_a_full_disk_under_the_log_does_not_stop_it(tmp_path: Path, place: Path) -> None:
    with small_disk(place / "small", "64k") as small:
        command = "sh -c 'head -c 1000000 /dev/zero; exec sleep 1000'"
        entry = workload(command, log=small / "out.log")
        async with Rig(tmp_path, entry).running() as rig:
            await rig.launched()
            await until(lambda: "No space left on device" in rig.facts["r1"].reason)
            assert rig.facts["r1"].reason.startswith("running since")
            rig.bus.publish(people(active=True))
            assert (await rig.is_over()).exit_signal == 15


async def test_a_full_disk_under_the_runner_keeps_nobody_from_leaving(
    tmp_path: Path, place: Path
) -> None:
    with small_disk(place / "small", "1m") as small:
        async with Rig(small, workload("sleep 1000")).running() as rig:
            await rig.launched("r1")
            with contextlib.suppress(OSError), (small / "filler").open("wb", 0) as filler:
                while True:
                    filler.write(bytes(4096))
            rig.wish(rig.grant("r1", "GPU-0"), rig.grant("r2", "GPU-1"))
            await rig.refused("r2: nothing can be started")
            rig.bus.publish(people(active=True))
            fact = await rig.is_over("r1")
            assert (fact.state, fact.exit_signal) == ("evicted", 15)


async def test_without_a_log_its_output_goes_to_the_runners(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with Rig(tmp_path, workload("echo hello")).running() as rig:
        await rig.launched_and_over()

    assert "fold r1: hello\n" in capfd.readouterr().err


async def test_an_exit_code_is_in_the_event(tmp_path: Path) -> None:
    async with Rig(tmp_path, workload("sh -c 'exit 3'")).running() as rig:
        await rig.launched_and_over()

        last = rig.events("r1")[-1]
        assert (last["state"], last["exit_code"]) == ("failed", 3)


async def test_a_program_that_cannot_be_run_says_why(tmp_path: Path, place: Path) -> None:
    script = place / "fold"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    async with Rig(tmp_path, workload(str(script))).running() as rig:
        fact = await rig.launched_and_over()

        assert fact.reason == f"failed: cannot run {script}: No such file or directory"


async def test_a_workload_that_never_opens_its_gpu_is_there_once(tmp_path: Path) -> None:
    async with Rig(tmp_path, workload("sleep 1234567")).running() as rig:
        await rig.launched()
        for _ in range(10):
            rig.beat()
            rig.wish(rig.grant())
        await until(lambda: bool(rig.state and rig.state.generation == 11))

        found = subprocess.run(["pgrep", "-fx", "sleep 1234567"], capture_output=True, check=True)
        assert found.stdout.split() == [str(rig.facts["r1"].pid).encode()]


async def test_limits_that_cannot_be_set_are_named(tmp_path: Path) -> None:
    entry = workload("sleep 1000", memory_max_bytes=10**9, processes_max=100, cpu_max_percent=50)
    async with Rig(tmp_path, entry).running() as rig:
        await rig.launched()
        pid = rig.facts["r1"].pid
        assert pid
        assert is_alive(pid)

        enabled = Path("/sys/fs/cgroup/cgroup.controllers")
        there = enabled.read_text().split() if enabled.exists() else []
        missing = [
            limit
            for limit, controller in (
                ("cpu weight", "cpu"), ("cpu limit", "cpu"), ("memory limit", "memory"),
                ("process limit", "pids"),
            )
            if controller not in there
        ]  # fmt: skip
        assert [text.partition(":")[0] for text in rig.facts["r1"].limits_not_set] == missing
