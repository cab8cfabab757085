"""A runner in a process of its own, so that a test can kill it: `agent.py DIRECTORY OPTIONS`.

It plays the collector's and the scheduler's part, too, and says every fact as a line of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import Run, RunnerState
from services.runner import cgroup
from services.runner.process import ProcessLauncher
from services.runner.timing import Timing
from tests.builders import until
from tests.runner.rig import Rig, workload


async def main(directory: Path, options: dict[str, object]) -> None:
    """Run until killed; `wish` names the runs to be wished for, one per GPU."""
    dead_man = options.get("dead_man", [25, 33])
    assert isinstance(dead_man, list)
    timing = Timing(tick=0.05, dead_man_term=dead_man[0], dead_man_kill=dead_man[1])
    groups = cgroup.find() if options.get("cgroup", True) else None
    launcher = ProcessLauncher(directory / "node" / "beat", groups, timing)
    entry = workload(str(options["command"]), grace_seconds=options.get("grace", 5))
    rig = Rig(directory, entry, launcher=launcher, timing=timing)

    def say(delivery: Delivery) -> None:
        if isinstance(delivery.message, Run | RunnerState):
            print(delivery.message.model_dump_json(), flush=True)

    async with rig.running():
        rig.bus.subscribe(Run, say)
        rig.bus.subscribe(RunnerState, say)
        await until(lambda: rig.catalogue is not None)
        wish = options.get("wish")
        if isinstance(wish, list):
            gpus = ("GPU-0", "GPU-1")
            rig.wish(*(rig.grant(run, gpu) for run, gpu in zip(wish, gpus, strict=False)))
            rig.beat()
        await asyncio.sleep(3600)


async def until_told(directory: Path, options: dict[str, object]) -> None:
    """End as a service does when it gets TERM."""
    task = asyncio.ensure_future(main(directory, options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(until_told(Path(sys.argv[1]), json.loads(sys.argv[2])))
