"""A real mosquitto on a free port of loopback, as a child that is ended by its pid."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from gleaner.bus.dial import dial
from gleaner.cli.machine.broker import free_port

CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 100000
max_packet_size 1048576
set_tcp_nodelay true
log_type error
log_type warning
"""


def program() -> str:
    """Return the path of mosquitto; a machine without it fails the tests."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    assert found, "mosquitto is not installed: run `make setup-test`"
    return found


class Mosquitto:
    """A broker that can be stopped, killed and started again on the same port."""

    def __init__(self, directory: Path, configuration: str = CONFIGURATION) -> None:
        self.port = free_port()
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._file = directory / "mosquitto.conf"
        self._file.write_text(configuration.format(port=self.port))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        self.process = subprocess.Popen([program(), "-c", str(self._file)])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), dial(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        raise AssertionError("mosquitto did not answer within 10 s")

    def stop(self) -> None:
        """End it kindly."""
        if self.process:
            self.process.terminate()
            self.process.wait(10)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process:
            self.process.kill()
            self.process.wait(10)

    def forget(self) -> None:
        """Restart it, so that no retained message of another test is left."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
