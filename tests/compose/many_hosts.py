"""Many simulated hosts in one process, each with its own enrolment, connection and outbox.

`python -m tests.compose.many_hosts DIRECTORY`, with `DIRECTORY/NODE/enrolment` for each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from gleaner.runtime import set_up_log
from gleaner.settings import load
from services.node.service import serve_node
from services.node.settings import Settings

LIVELY = """
repeat_seconds = 2
[[work]]
at = 0
lasts = 1
user = "ada"
gpus = [0]
"""


def settings(directory: Path) -> Settings:
    """Return the settings of one host; its GPU changes hands each second, which makes events."""
    script = directory / "script.toml"
    script.write_text(LIVELY)
    os.environ |= {
        "GLEANER_BUS__ENROLMENT_FILE": str(directory / "enrolment"),
        "GLEANER_NODE__DATA_DIRECTORY": str(directory),
        "GLEANER_NODE__GPU__SOURCE": "simulated",
        "GLEANER_NODE__SIMULATED__GPUS": os.environ.get("GLEANER_NODE__SIMULATED__GPUS", "1"),
        "GLEANER_NODE__SIMULATED__SCRIPT": str(script),
    }
    return load(Settings)


async def main(directory: Path) -> None:
    """Run them until TERM."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this
    loop.add_signal_handler(signal.SIGTERM, this.cancel)
    async with asyncio.TaskGroup() as group:
        for one in sorted(directory.glob("*/enrolment")):
            group.create_task(serve_node(settings(one.parent)))


if __name__ == "__main__":
    set_up_log("hosts", "warning")
    try:
        asyncio.run(main(Path(sys.argv[1])))
    except asyncio.CancelledError:
        sys.exit(0)
