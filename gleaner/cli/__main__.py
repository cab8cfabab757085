"""The command `gleaner`. Services replace this process, so that they carry nothing of it."""

from __future__ import annotations

import os
import sys

SERVICES = ("node", "collector", "runner", "scheduler", "recorder", "web")


def main() -> None:
    """Run a service or one of the other commands."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in SERVICES:
        name, *rest = arguments
        command = [sys.executable, "-m", f"services.{name}", *rest]
        os.execv(sys.executable, command)  # noqa: S606 - no shell is what we want
    from gleaner.cli.app import run

    run()


if __name__ == "__main__":
    main()
