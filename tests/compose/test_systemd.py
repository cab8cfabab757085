"""Gleaner as services of systemd: by a real one, in a container, as people install it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.conftest import CONFIGURATION
from tests.compose.deployment import Deployment, wait
from tests.compose.machine import Machine, build_image
from tests.nvml_stand_in import StandIn

pytestmark = [pytest.mark.compose, pytest.mark.timeout(180, func_only=True)]

SEPARATE = """
[node]
id = "gpu1"
[node.gpu]
source = "simulated"
[accounting]
csv_directory = "/srv/usage"
"""
NAMES = ("node", "scheduler", "recorder", "web")


@pytest.fixture(scope="module")
def image(images: None) -> None:
    """The machine's image."""
    build_image()


@pytest.fixture
def machine(image: None) -> Iterator[Machine]:
    """A machine where nothing is installed yet."""
    with Machine(f"gleaner-test-{os.getpid()}-systemd") as one:
        yield one


def test_one_command_runs_the_machine_and_another_leaves_nothing_but_data(machine: Machine) -> None:
    before = files(machine)

    said = machine.gleaner("install")

    assert said.startswith("gleaner.service is installed and started, and is well; log: journal")
    assert machine.show("gleaner", "ActiveState") == "active"
    assert machine.show("gleaner", "UnitFileState") == "enabled"
    assert machine.has_page()

    pid = machine.show("gleaner", "MainPID")
    assert "was installed already, and is well" in machine.gleaner("install")
    assert machine.show("gleaner", "MainPID") == pid

    database = machine.shell("stat -c %i /var/lib/gleaner/recorder/gleaner.sqlite")
    said = machine.gleaner("uninstall")
    assert said == "gleaner.service is stopped and removed; kept: data in /var/lib/gleaner"
    assert not machine.processes("gleaner")
    assert not machine.processes("services.")
    assert not machine.processes("mosquitto")
    left = files(machine) - before
    assert {path for path in left if not path.startswith("/var/lib/gleaner")} == set()
    assert machine.show("gleaner", "LoadState") == "not-found"
    assert machine.gleaner("uninstall") == "nothing is installed"
    assert machine.gleaner("uninstall", "node") == "gleaner-node.service is not installed"

    machine.gleaner("install")
    assert machine.shell("stat -c %i /var/lib/gleaner/recorder/gleaner.sqlite") == database
    assert "a new database" not in machine.shell(
        "journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show --value -p InvocationID gleaner)"
    )


def files(machine: Machine) -> set[str]:
    """Return every file of the machine, but for what its kernel, programs and log write."""
    return set(
        machine.shell(
            "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /var/log"
            " -o -name __pycache__ \\) -prune -o -type f -print -o -type l -print"
        ).splitlines()
    )


KILL = """
pid=$(systemctl show --value -p MainPID {unit})
kill -9 $pid
began=$(date +%s%3N)
until [ "$(systemctl is-active {unit})" = active ] &&
    [ "$(systemctl show --value -p MainPID {unit})" != $pid ]; do sleep 0.02; done
echo $(($(date +%s%3N) - began))
"""


def kill(machine: Machine, unit: str) -> int:
    """Kill a service; return after how many milliseconds it is active again."""
    return int(machine.shell(KILL.format(unit=unit)))


def test_what_is_killed_is_back_at_once_however_often(machine: Machine) -> None:
    machine.gleaner("install")

    took = [kill(machine, "gleaner") for _ in range(8)]

    print(f"active again after {sorted(took)} ms")
    assert max(took) < 2000
    wait(machine.has_page, 20, machine.journal)
    assert machine.show("gleaner", "NRestarts") == "8"
    # What the killed one had started is gone, too.
    assert len(machine.processes("services.web")) == 1
    assert len(machine.processes("mosquitto -c")) == 1


def test_each_service_has_a_unit_confined_to_what_it_needs(machine: Machine) -> None:
    machine.write("/etc/gleaner/gleaner.toml", SEPARATE)
    # Debian's: on this machine, for whoever asks.
    machine.shell("systemctl start mosquitto")

    said = machine.gleaner("install", *NAMES)

    assert [line.split()[0] for line in said.splitlines()] == [
        f"gleaner-{name}.service" for name in NAMES
    ]
    units = [f"/etc/systemd/system/gleaner-{name}.service" for name in NAMES]
    assert machine.run("systemd-analyze", "verify", *units) == (0, "")
    for name in NAMES:
        assert machine.show(f"gleaner-{name}", "ActiveState") == "active"
        assert machine.gleaner("health", name) == f"{name} is well"
    wait(lambda: "gpu1" in machine.gleaner("status"), 20, machine.journal)
    for name in ("scheduler", "recorder", "web"):
        assert may_write(machine, name, "/var/lib/gleaner")
        assert may_write(machine, name, "/srv/usage") == (name == "recorder")
        assert not may_write(machine, name, "/etc")
    assert may_write(machine, "node", "/etc")

    status, said = machine.run("gleaner", "install")
    assert status == 1
    assert said.startswith("`gleaner up` runs the whole machine, and node, recorder, ")
    machine.gleaner("uninstall", "web")
    assert machine.show("gleaner-node", "ActiveState") == "active"
    said = machine.gleaner("uninstall")
    assert said.count("is stopped and removed; kept: data in /var/lib/gleaner, configuration") == 3
    assert not machine.processes("gleaner")


def may_write(machine: Machine, name: str, directory: str) -> bool:
    """Whether a service may write in a folder."""
    pid = machine.show(f"gleaner-{name}", "MainPID")
    return machine.run("nsenter", f"--target={pid}", "--mount", "test", "-w", directory)[0] == 0


def test_a_mistake_is_told_and_not_tried_for_ever(machine: Machine) -> None:
    machine.write("/etc/gleaner/gleaner.toml", '[web]\nlisten = "x"\n')
    status, said = machine.run("gleaner", "install")
    assert (status, "web.listen" in said) == (2, True)
    assert machine.show("gleaner", "LoadState") == "not-found"

    machine.write("/etc/gleaner/gleaner.toml", "")
    machine.gleaner("install")
    machine.write("/etc/gleaner/gleaner.toml", "[wep]\n")
    machine.run("systemctl", "restart", "gleaner")
    wait(lambda: machine.show("gleaner", "ActiveState") == "failed")
    assert machine.show("gleaner", "NRestarts") == "0"

    # Somebody else has the data directory: that may change, so it is tried again.
    machine.write("/etc/gleaner/gleaner.toml", "")
    machine.shell("flock /var/lib/gleaner/up.lock sleep 60 >/dev/null 2>&1 &")
    status, said = machine.run("gleaner", "install")
    assert status == 1
    assert "gleaner.service is installed, but ends again and again; log: journalctl" in said
    assert "gleaner up runs already" in said
    machine.shell("kill $(pidof flock) $(pidof sleep)")
    wait(machine.has_page, 20, machine.journal)
    assert machine.gleaner("install").startswith("gleaner.service was installed already")


def test_an_ordinary_user_has_services_of_their_own(machine: Machine) -> None:
    uid = machine.shell("id -u somebody")
    machine.shell(f"systemctl start user@{uid}")

    status, said = machine.run("gleaner", "install", user="somebody", HOME="/home/somebody")

    assert status == 0, said
    assert "log: journalctl --user -u gleaner" in said
    assert "loginctl enable-linger" in said
    assert machine.has_page()
    unit = "/home/somebody/.config/systemd/user/gleaner.service"
    assert machine.shell(f"stat -c %U {unit}") == "somebody"
    status, said = machine.run("gleaner", "uninstall", user="somebody", HOME="/home/somebody")
    assert "kept: data in /home/somebody/.local/state/gleaner" in said
    assert not machine.processes("services.")
    assert machine.run("test", "-e", unit)[0] == 1


def test_a_host_joins_by_one_command_and_a_run_outlives_a_killed_node(
    deployment: Deployment, folder: Path, gpu: StandIn, image: None
) -> None:
    workloads = folder / "workloads"
    mounts = (
        f"--volume={folder / 'dev'}:/gpus",
        f"--volume={gpu.library}:/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1:ro",
        f"--volume={workloads}:{workloads}",
    )
    with Machine(f"gleaner-test-{os.getpid()}-host", "--network=host", *mounts) as host:
        host.write("/etc/gleaner/gleaner.toml", CONFIGURATION.format(directory=folder))
        # As `systemctl edit` does.
        own = "[Service]\nEnvironment=NVML_STAND_IN=/gpus/nvml\n"
        host.write("/etc/systemd/system/gleaner-node.service.d/override.conf", own)
        enrolment = deployment.enroll("systemd1")

        host.gleaner("install", "node", GLEANER_ENROLMENT=enrolment)

        wait(lambda: deployment.presence("systemd1") == "online", 20, host.journal)
        kept = "/var/lib/gleaner/account/enrolment"
        assert host.shell(f"stat -c '%a %U' {kept}") == "600 root"
        assert "gleaner1." not in host.shell("cat /etc/systemd/system/gleaner-node.service")
        assert "gleaner1." not in host.journal()

        wait(lambda: host.processes("workload.py"), 60, host.journal)
        runs = host.processes("workload.py")
        assert kill(host, "gleaner-node") < 2000
        wait(lambda: "adopted" in host.journal(), 20, host.journal)
        wait(lambda: deployment.presence("systemd1") == "online", 20, host.journal)
        assert host.processes("workload.py") == runs

        renewed = deployment.gleaner("enroll", "systemd1", "--renew").split()[0].partition("=")[2]
        wait(lambda: deployment.presence("systemd1") == "stale", 20)
        host.gleaner("install", "node", GLEANER_ENROLMENT=renewed)
        wait(lambda: deployment.presence("systemd1") == "online", 20, host.journal)
        wait(lambda: host.processes("workload.py"), 60, host.journal)

        host.gleaner("uninstall")
        assert not host.processes("workload.py")
        assert not host.processes("gleaner")
        deployment.gleaner("enroll", "systemd1", "--remove")
