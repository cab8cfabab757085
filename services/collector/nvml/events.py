"""Hear what the driver reports of a GPU without being asked: XIDs and memory errors.

Part of the NVML child, which imports nothing else of ours.
"""

from __future__ import annotations

import time
from typing import Any

from services.collector.nvml.questions import FATAL, text_of

_DOUBLE_BIT_ECC, _XID = 0x2, 0x8
_TIMEOUT = 10
_WAIT_MILLISECONDS = 1
"""Events lie ready or they do not; nothing says that NVML takes 0 for "do not wait"."""
_AT_ONCE = 64
"""A GPU that reports without end must not keep the others waiting."""


class Events:
    """What one GPU reports; each has a set of its own, for one that is lost spoils its set."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Begin to listen; why that is not possible is in `problem`."""
        self._nvml = nvml
        self._set: Any = None
        self.problem: str | None = None
        try:
            wanted = nvml.nvmlDeviceGetSupportedEventTypes(handle) & (_XID | _DOUBLE_BIT_ECC)
            if not wanted & _XID:
                self.problem = "unsupported"
                return
            events = nvml.nvmlEventSetCreate()
            nvml.nvmlDeviceRegisterEvents(handle, wanted, events)
            self._set = events
        except nvml.NVMLError as error:
            if error.value in FATAL:
                raise
            self.problem = text_of(error)

    def take(self) -> list[dict[str, Any]]:
        """Return what was reported since the last time: XIDs, or None for a memory error."""
        found: list[dict[str, Any]] = []
        while self._set is not None and len(found) < _AT_ONCE:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._set, _WAIT_MILLISECONDS)
            except self._nvml.NVMLError as error:
                if error.value in FATAL:
                    raise
                # A GPU that is lost says so in every other answer too.
                self.problem = None if error.value == _TIMEOUT else text_of(error)
                break
            xid = event.eventData if event.eventType == _XID else None
            found.append({"xid": xid, "at": time.time()})
        return found
