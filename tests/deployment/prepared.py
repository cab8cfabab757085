"""A prepared deployment in a folder, and its broker as the container runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

import psutil

from gleaner.bus.connection import Connection
from gleaner.cli.deployment.enroll import Change, enroll
from gleaner.cli.deployment.prepare import BROKER, SERVICES, Wanted, prepare
from gleaner.cli.machine.broker import Address, broker_user, can_listen, free_port, is_answered
from gleaner.settings.enrolled import KEPT
from gleaner.settings.enrolment import Enrolment, Part, account, decode

MOSQUITTO = Path(__file__).parents[2] / "mosquitto"


def neighbours() -> int:
    """Return a free port whose next one is free too."""
    while True:
        port = free_port()
        if can_listen("127.0.0.1", port + 1):
            return port


def volumes(directory: Path) -> Path:
    """Make the empty volumes, of the user that the broker will run as."""
    for name in (BROKER, *SERVICES):
        (directory / name).mkdir()
        user = broker_user()
        if user:
            os.chown(directory / name, *user)
    return directory


class Deployment:
    """What `gleaner prepare` and `gleaner enroll` make, and the broker that reads it."""

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self.directory = volumes(directory)
        self.tls = tls
        self.port = neighbours()
        self.prepare()
        self.broker: subprocess.Popen[str] | None = None

    def prepare(self) -> list[str]:
        """Prepare it, once more."""
        wanted = Wanted(server="127.0.0.1", broker="127.0.0.1", port=self.port, tls=self.tls)
        return list(prepare(self.directory, wanted))

    def spawn(self) -> None:
        """Start the broker by its script, as a user who may write nothing but the volume."""
        shutil.copytree(MOSQUITTO, self.directory / "mosquitto", dirs_exist_ok=True)
        user, group = broker_user() or (None, None)
        self.broker = subprocess.Popen(
            [self.directory / "mosquitto" / "start.sh", self.directory / BROKER],
            user=user,
            group=group,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        self.spawn()
        for port in (self.port, self.port + 1):
            deadline = time.monotonic() + 10
            while not is_answered(Address("127.0.0.1", port)):
                assert time.monotonic() < deadline, "the broker did not answer within 10 s"
                time.sleep(0.01)

    def ended(self) -> tuple[int, str]:
        """Wait until the broker has ended; return its status and what it said."""
        assert self.broker is not None
        _, said = self.broker.communicate(timeout=20)
        return self.broker.returncode, said

    def stop(self) -> int:
        """End the broker kindly; return its status."""
        assert self.broker is not None
        self.broker.terminate()
        return self.ended()[0]

    def kill_mosquitto(self) -> None:
        """End mosquitto itself, as the kernel does when memory runs out."""
        assert self.broker is not None
        for child in psutil.Process(self.broker.pid).children():
            if child.name() == "mosquitto":
                child.kill()

    def service(self, name: str) -> Connection:
        """Return how a service connects."""
        return connection(decode((self.directory / name / KEPT).read_text()))

    def enroll(self, node: str, change: Change = "new") -> Enrolment:
        """Enroll a node and wait until the broker knows."""
        done = enroll(self.directory, "node", node, change)
        assert done.is_known
        return done.enrolment

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def connection(said: Enrolment, part: Part = "") -> Connection:
    """Return how the holder of an enrolment connects."""
    return Connection(
        url=said.url,
        user=account(said.user, part if said.node else ""),
        password=said.password,
        client_id=said.client_id,
        ca=said.ca,
    )
