"""Where the broker of a running `gleaner up` is, for the command line of the same machine."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from gleaner.bus.connection import Connection
from gleaner.cli.machine.broker import OPERATOR
from gleaner.runtime import write_atomically


def _file(data_directory: Path) -> Path:
    return data_directory / "broker" / "endpoint.json"


def write_endpoint(data_directory: Path, url: str) -> None:
    """Say where the broker is; everybody on this machine may know."""
    write_atomically(_file(data_directory), json.dumps({"url": url}) + "\n", 0o644)


def remove_endpoint(data_directory: Path) -> None:
    """Say that there is none."""
    with contextlib.suppress(OSError):
        _file(data_directory).unlink(missing_ok=True)


def find_endpoint(data_directory: Path) -> Connection | None:
    """Return how to reach it: as the operator if we may read the password, else to look only."""
    try:
        url = json.loads(_file(data_directory).read_text())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        password = (data_directory / "broker" / "operator.password").read_text().strip()
    except OSError:
        return Connection(url=url)
    return Connection(url=url, user=OPERATOR, password=password, client_id="own")
