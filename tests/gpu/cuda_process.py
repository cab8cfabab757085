"""A process that uses a GPU as any CUDA program does, with nothing but the driver's own library.

    python cuda_process.py FILE MEGABYTES

says in FILE, a line each, what it has done and CLOCK_MONOTONIC when it was done: `start`, `init`
(the devices are open), `context`, `memory`, and `term` when it is told to leave. As a workload of
ours it says it with its run's id, as the other workloads of the tests do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time


def say(word: str) -> None:
    """Write down that something is done."""
    with open(sys.argv[1], "a") as file:
        file.write(f"{word} {os.environ.get('GLEANER_RUN', os.getpid())} {time.monotonic_ns()}\n")


def checked(function: str, code: int) -> None:
    """End with a sentence if the driver refuses."""
    if code:
        sys.exit(f"{function} failed with {code}")


def leave(*_: object) -> None:
    """Say so and end at once: the driver takes back what we had."""
    say("term")
    os._exit(0)


def main() -> None:
    """Take a context and memory on the first GPU that is visible, and wait."""
    signal.signal(signal.SIGTERM, leave)
    cuda = ctypes.CDLL("libcuda.so.1")
    say("start")
    checked("cuInit", cuda.cuInit(0))
    say("init")
    device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    checked("cuDeviceGet", cuda.cuDeviceGet(ctypes.byref(device), 0))
    checked(
        "cuDevicePrimaryCtxRetain", cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    )
    checked("cuCtxSetCurrent", cuda.cuCtxSetCurrent(context))
    say("context")
    size = ctypes.c_size_t(int(sys.argv[2]) << 20)
    checked("cuMemAlloc", cuda.cuMemAlloc_v2(ctypes.byref(memory), size))
    # Some driver versions give memory only when it is touched.
    checked("cuMemsetD8", cuda.cuMemsetD8_v2(memory, ctypes.c_ubyte(1), size))
    say("memory")
    say("ready")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
