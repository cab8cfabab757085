"""Events as lines."""

from __future__ import annotations

from typing import Any

import pytest

from gleaner.cli.events import describe


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (
            "gpu",
            {"index": 0, "before": "idle", "state": "busy", "reasons": ["user1 computes"]},
            "GPU 0: idle → busy (user1 computes)",
        ),
        ("gpu", {"index": 1, "state": "idle"}, "GPU 1: idle"),
        (
            "people",
            {"active": True, "reason": "user1 is active at pts/3"},
            "user1 is active at pts/3",
        ),
        (
            "run",
            {"run": "r1", "entry": "fold", "reason": "evicted: user1 is active at pts/3"},
            "run r1 of fold: evicted: user1 is active at pts/3",
        ),
        (
            "problem",
            {"what": "nvml", "text": "no answer within 3 s"},
            "problem: no answer within 3 s",
        ),
        (
            "short_process",
            {"index": 1, "pid": 7, "user": "user1", "command": "python", "entry": None},
            "GPU 1: user1 computed briefly (pid 7, python)",
        ),
        (
            "short_process",
            {"index": 1, "pid": 7, "user": None, "command": None, "entry": None},
            "GPU 1: somebody computed briefly (pid 7, no longer known)",
        ),
        ("overflow", {"dropped": 3}, "3 events were dropped: nobody recorded them"),
        ("node_started", {"version": "0.1.0", "source": "nvml"}, "version 0.1.0, source nvml"),
        ("node_started", {"uptime_seconds": 41}, ", 41 s after its host was booted"),
        ("of_tomorrow", {"a": 1}, "of_tomorrow a=1"),
    ],
)
def test_an_event_is_a_line(kind: str, data: dict[str, Any], text: str) -> None:
    row = {"at": "2026-11-21T12:00:00.123Z", "node": "n1", "kind": kind, "data": data}

    assert describe(row).startswith("2026-11-21 12:00:00  n1  ")
    assert describe(row).endswith(text)


def test_an_event_without_data_is_still_told() -> None:
    assert describe({"at": "2026-11-21T12:00:00Z", "node": "n1", "kind": "people"}).endswith(
        "people came or went"
    )
