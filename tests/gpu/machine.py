"""A machine with a GPU to ask questions of: a real one, or one whose driver is stood in for.

Both load the same libraries by the same names, run the same CUDA process and are asked the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pynvml

from tests.nvml_stand_in import MIB, StandIn
from tests.python import python_for_others
from tests.system import make_devices

HERE = Path(__file__).parent
PROGRAM = HERE / "cuda_process.py"
MEGABYTES = 512


@dataclass(kw_only=True)
class Machine:
    """What there is, and what a process needs to find it."""

    is_real: bool
    name: str
    gpus: int
    device_directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    stand_in: StandIn | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the driver know of CUDA processes; a real one does by itself."""
        if self.stand_in is None:
            yield
            return
        driver = asyncio.create_task(_list_cuda_processes(self.stand_in))
        try:
            yield
        finally:
            driver.cancel()
            await asyncio.wait([driver])


def real_machine() -> Machine | str:
    """Return this machine, or in one sentence why its GPU cannot be tested on."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return f"these tests need a real NVIDIA GPU, and NVML says: {error}"
    try:
        count = pynvml.nvmlDeviceGetCount()
        if not count:
            return "these tests need a real NVIDIA GPU, and NVML finds none"
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        busy = [one.pid for one in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
        if busy:
            return f"these tests need GPU 0 for themselves, and {busy} compute on it"
        name = f"{pynvml.nvmlDeviceGetName(handle)}, driver {pynvml.nvmlSystemGetDriverVersion()}"
        return Machine(is_real=True, name=name, gpus=count, device_directory=Path("/dev"))
    finally:
        pynvml.nvmlShutdown()


def machine_of_stand_ins(directory: Path, nvml: Path) -> Machine:
    """Return a machine with one GPU whose driver consists of the two stand-ins."""
    (device,) = make_devices(directory / "dev", 1)
    stand_in = StandIn(library=nvml, file=directory / "nvml")
    del stand_in.gpus[1:]
    stand_in.gpus[0]["memory_total"] = 80_000 * MIB
    stand_in.write()
    (directory / "devices").write_text(f"{device}\n")
    contexts = directory / "contexts"
    contexts.touch()
    contexts.chmod(0o666)
    # Beside what the test makes: others must be able to load it.
    cuda = _build_cuda(directory)
    libraries = f"{nvml.parent}:{cuda.parent}"
    return Machine(
        is_real=False,
        name="stand-in",
        gpus=1,
        device_directory=directory / "dev",
        environment=stand_in.environment()
        | {"LD_LIBRARY_PATH": libraries, "CUDA_STAND_IN": str(directory)},
        stand_in=stand_in,
    )


def _build_cuda(directory: Path) -> Path:
    """Compile the stand-in for libcuda.so.1 and return it."""
    library = directory / "libcuda.so.1"
    source = HERE / "cuda_stand_in.c"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", library, source],
        check=True,
    )
    return library


async def _list_cuda_processes(stand_in: StandIn) -> None:
    """List in NVML who has a CUDA context and is alive, and count their memory, until cancelled."""
    contexts = stand_in.file.parent / "contexts"
    idle_bytes = int(stand_in.gpus[0]["memory_used"])
    while True:
        used: dict[int, int] = {}
        for line in contexts.read_text().splitlines():
            pid, size = map(int, line.split())
            if _is_alive(pid):
                used[pid] = used.get(pid, 0) + size
        listed = [(0, "compute", pid, size) for pid, size in used.items()]
        if listed != stand_in.processes:
            stand_in.processes = listed
            stand_in.gpus[0]["memory_used"] = idle_bytes + sum(used.values())
            stand_in.write()
        await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


class CudaStranger:
    """Somebody else's CUDA process, and when it did what."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self._said = directory / "stranger"
        self._said.touch()
        self._said.chmod(0o666)
        program = directory / "training.py"
        program.write_text(PROGRAM.read_text())
        user = 65534 if os.geteuid() == 0 else None
        self.process = subprocess.Popen(
            [python_for_others(), program, self._said, str(MEGABYTES)],
            env=os.environ | machine.environment | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            user=user,
            group=user,
            cwd="/",
        )

    def at(self, word: str) -> int | None:
        """Return CLOCK_MONOTONIC of when it had done something; None: not yet."""
        assert self.process.poll() is None, "the CUDA process has ended; its last words are above"
        for line in self._said.read_text().splitlines():
            if line.startswith(word + " "):
                return int(line.split()[2])
        return None

    def is_ready(self) -> bool:
        """Whether it has all that it wants."""
        return self.at("ready") is not None

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
