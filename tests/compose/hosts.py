"""Hosts outside of the containers: `gleaner node` as a child, let in by its enrolment alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.compose.deployment import ROOT


class Host:
    """A simulated host with one GPU."""

    def __init__(self, directory: Path, enrolment: str, **settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._log = directory / "log"
        script = directory / "script.toml"
        script.write_text("")
        configuration = directory / "gleaner.toml"
        configuration.write_text('[[workload]]\nname = "fold"\ncommand = "sleep 86400"\n')
        self._environment = {
            "PYTHONPATH": str(ROOT),
            "GLEANER_BUS__ENROLMENT": enrolment,
            "GLEANER_CONFIG": str(configuration),
            "GLEANER_NODE__DATA_DIRECTORY": str(directory / "data"),
            "GLEANER_NODE__GPU__SOURCE": "simulated",
            "GLEANER_NODE__SIMULATED__GPUS": "1",
            "GLEANER_NODE__SIMULATED__SCRIPT": str(script),
            "GLEANER_NODE__PEOPLE__IDLE_SECONDS": "0",
        } | settings
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process
        if self.process.poll() is None:
            self.stop()

    def start(self) -> None:
        """Start it, as `gleaner node` would."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.node"],
                env=os.environ | self._environment,
                cwd=self.directory,
                stderr=log,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; return its status."""
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(30)

    def said(self) -> str:
        """Return what it logged."""
        return self._log.read_text()
