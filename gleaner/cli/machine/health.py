"""Whether a service of this machine is well; with nothing but what every installation has."""

from __future__ import annotations

import time
from pathlib import Path

from gleaner.cli.machine import demo


def health(data_directory: Path, service: str, since: float = 0.0) -> tuple[bool, str]:
    """Whether a service lives and has the bus, by the age of its health file.

    `since`: when it was started; that it had the bus before does not count.
    """
    if service == demo.NODE:
        # The node that `gleaner up` adds has a data directory of its own.
        path = data_directory / demo.NODE / "health" / "node"
    else:
        path = data_directory / "health" / service
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return False, f"{service} has not had the bus yet ({path} is not there)"
    except OSError as error:
        return False, f"{path}: {error.strerror}"
    if touched < since:
        return False, f"{service} has not had the bus since its start"
    age = time.time() - touched
    # A file of the future: the clock was set back since, and nobody has touched it after.
    if abs(age) < 10:
        return True, f"{service} is well"
    if age < 0:
        return False, f"{service} has not had the bus since the clock was set back"
    return False, f"{service} has not had the bus for {age:.0f} s"
