"""mosquitto/start.sh: one clear line when it cannot, and an end when it is told to."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gleaner.cli.machine.broker import Address, is_answered
from tests.builders import folder_for_all
from tests.deployment.prepared import MOSQUITTO, Deployment

pytestmark = pytest.mark.broker


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with folder_for_all() as folder:
        yield Deployment(folder)


def said_by(volume: Path) -> tuple[int, str]:
    """Return how the script ends, and what it said last."""
    ended = subprocess.run(
        [MOSQUITTO / "start.sh", volume], capture_output=True, text=True, timeout=20
    )
    return ended.returncode, ended.stderr.strip().splitlines()[-1]


def test_a_volume_that_is_not_prepared_is_named(tmp_path: Path) -> None:
    assert said_by(tmp_path) == (
        1,
        f"broker: {tmp_path} is not prepared; `gleaner prepare` does that",
    )


def test_a_volume_that_is_not_there_is_named() -> None:
    assert said_by(Path("/nowhere")) == (1, "broker: /nowhere: is the volume mounted?")


def test_a_port_that_is_taken_is_named(deployment: Deployment) -> None:
    with socket.create_server(("127.0.0.1", deployment.port)):
        deployment.spawn()
        status, said = deployment.ended()

    assert status == 1
    assert "Address already in use" in said
    assert f"another program has one of the ports {deployment.port} {deployment.port + 1}" in said


def test_it_ends_when_it_is_told_and_leaves_nothing_running(deployment: Deployment) -> None:
    deployment.start()
    began = time.monotonic()

    assert deployment.stop() == 0

    assert time.monotonic() - began < 5
    assert not is_answered(Address("127.0.0.1", deployment.port))
    assert not (deployment.directory / "broker" / "heard").exists()


def test_it_ends_with_the_broker_so_that_somebody_starts_it_again(deployment: Deployment) -> None:
    deployment.start()
    deployment.kill_mosquitto()

    status, said = deployment.ended()

    assert status == 137
    assert "broker: mosquitto ended with status 137" in said


def test_listeners_that_have_changed_are_opened_without_being_told(deployment: Deployment) -> None:
    deployment.start()
    try:
        deployment.tls = True
        deployment.prepare()
        deadline = time.monotonic() + 10
        while not speaks_tls(deployment):
            assert time.monotonic() < deadline, "no TLS within 10 s"
            time.sleep(0.05)
    finally:
        assert deployment.stop() == 0


def speaks_tls(deployment: Deployment) -> bool:
    authority = deployment.directory / "broker" / "certificates" / "ca.pem"
    asked = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{deployment.port}", "-CAfile", authority],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
    )
    return b"Verify return code: 0 (ok)" in asked.stdout
