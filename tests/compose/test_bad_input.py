"""What may be wrong with a deployment: one clear line in its logs, and the rest goes on."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.compose.deployment import Deployment, wait
from tests.compose.hosts import Host

pytestmark = [pytest.mark.compose, pytest.mark.timeout(120, func_only=True)]

NEWER = """
import sqlite3
database = sqlite3.connect('/var/lib/gleaner/recorder/gleaner.sqlite')
database.execute("UPDATE alembic_version SET version_num = '9999'")
database.commit()
"""


def lines(text: str, part: str) -> list[str]:
    """Return the lines that have this in them."""
    return [line for line in text.splitlines() if part in line]


def test_a_port_that_is_taken_and_a_volume_of_a_newer_version(second: Deployment) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", second.web_port))
        other.listen()
        said = second.compose("up", "-d", succeeds=False)
        assert any(str(second.web_port) in line for line in lines(said.lower(), "already"))
        wait(lambda: "connected to the broker" in second.logs("scheduler"))
        wait(lambda: "connected to the broker" in second.logs("recorder"))
    second.up()

    second.python("recorder", NEWER)
    second.compose("restart", "-t", "5", "recorder")

    newer = "was written by a newer version of Gleaner"
    wait(lambda: newer in second.logs("recorder"))
    assert "Traceback" not in second.logs("recorder")
    assert second.api("fleet")["overview"]["scheduler_online"]
    assert "recorder" in second.page("/usage")

    second.compose("stop", "-t", "2")
    said = second.compose(
        *("run", "--rm", "-T", "--entrypoint", "sed", "setup"),
        *("-i", 's/"version": 1/"version": 99/', "/gleaner/broker/accounts.json"),
    )
    said = second.compose("up", "-d", succeeds=False) + second.logs("setup")
    (line,) = lines(second.logs("setup"), "newer Gleaner")
    assert "accounts.json" in line, said


def test_a_variable_that_is_missing_or_makes_no_sense(second: Deployment) -> None:
    second.compose("up", "-d", "setup", GLEANER_TLS="perhaps", succeeds=False)
    wait(lambda: lines(second.logs("setup"), "env var: 'GLEANER_TLS'"))

    second.compose("up", "-d", "node")
    wait(lambda: lines(second.logs("node"), "gleaner enroll"))
    assert "Traceback" not in second.logs("node")


def test_a_host_with_a_wrong_id_or_one_that_is_taken(
    deployment: Deployment, tmp_path: Path
) -> None:
    text = deployment.enroll("first")
    with Host(tmp_path / "first", text) as first:
        wait(lambda: deployment.presence("first") == "online", 20, first.said)

        with Host(tmp_path / "wrong", text, GLEANER_NODE__ID="other") as wrong:
            assert ended(wrong) == 2
            (line,) = wrong.said().splitlines()
            assert "this host is enrolled as 'first'" in line

        damaged = text[:-3] + "xyz"
        with Host(tmp_path / "damaged", damaged) as broken:
            assert ended(broken) == 2
            (line,) = broken.said().splitlines()
            assert "damaged" in line

        with Host(tmp_path / "same", text) as same:
            assert ended(same) == 2
            (line,) = lines(same.said(), " ERROR ")
            assert "node.id first is in use by host" in line

        wait(lambda: deployment.presence("first") == "online")
        assert first.process
        assert first.process.poll() is None


def ended(host: Host) -> int:
    """Wait until a host's process ends by itself; return its status."""
    assert host.process
    return host.process.wait(30)


def test_a_clock_that_is_off_by_an_hour(deployment: Deployment, tmp_path: Path) -> None:
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock_stand_in.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    text = deployment.enroll("late")
    with Host(tmp_path / "late", text, LD_PRELOAD=str(library), CLOCK_SHIFT="-3600") as late:
        wait(lambda: deployment.presence("late") == "online", 20, late.said)
        told = "its clock is 60 min behind ours"
        wait(lambda: lines(deployment.logs("web"), told))
        (line,) = lines(deployment.logs("web"), told)
        assert "late" in line
        node = deployment.node("late")
        assert node
        assert any(told in limitation for limitation in node["limitations"])
        assert told in deployment.page("/node/late")
    assert not lines(deployment.logs("scheduler"), "Traceback")
