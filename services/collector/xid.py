"""What NVIDIA's error numbers (XIDs) mean to whoever looks after a machine.

After https://docs.nvidia.com/deploy/xid-errors; numbers that are not here are said as they are.
"""

from __future__ import annotations

from typing import Literal

Severity = Literal["critical", "application", "information", "unknown"]

_MEANINGS: dict[int, tuple[Severity, str]] = {
    13: ("application", "a program made the graphics engine fail"),
    31: ("application", "a program used memory that is not its own"),
    43: ("application", "a program was stopped for a fault of its own"),
    45: ("application", "a program was ended, and what it had queued was dropped"),
    48: ("critical", "memory error that could not be corrected"),
    62: ("critical", "its power controller has halted"),
    63: ("information", "a row or page of its memory will be replaced"),
    64: ("critical", "a row or page of its memory could not be replaced"),
    74: ("critical", "NVLink error"),
    79: ("critical", "it has fallen off the bus"),
    92: ("information", "many memory errors, all of them corrected"),
    94: ("application", "memory error that ends only the program it hit"),
    95: ("critical", "memory error that may have hit any program"),
    119: ("critical", "its system processor (GSP) does not answer"),
    120: ("critical", "its system processor (GSP) has failed"),
    154: ("information", "the driver asks for another recovery action"),
}


def meaning(number: int) -> tuple[Severity, str]:
    """Return how grave an XID is, and what it means in words."""
    return _MEANINGS.get(number, ("unknown", "see NVIDIA's list of XIDs"))
