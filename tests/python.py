"""A Python that other users may run too: the environment's may lie in somebody's closed home."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

NOBODY = 65534


@cache
def python_for_others() -> str:
    """Return ours if everybody may run it, else the distribution's; a machine without one fails."""
    if os.geteuid() != 0:
        return sys.executable
    for candidate in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run([candidate, "-c", ""], user=NOBODY, group=NOBODY, cwd="/", check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    raise AssertionError("no Python that other users may run: apt install python3")
