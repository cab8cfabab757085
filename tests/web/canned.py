"""What a recorder would say, in a few rows that name only what matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from tests.web.conftest import Web

Row = dict[str, Any]
Told = Mapping[str, Sequence[Row] | str]
"""By what is asked (`usage:KEY`, `series:host`): rows, or why there is no answer."""


def tell(web: Web, told: Told) -> list[HistoryQuery]:
    """Play a recorder that says this and nothing else; return what it is asked."""
    asked: list[HistoryQuery] = []

    def reply(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        asked.append(query)
        key = f"usage:{query.by}" if query.what == "usage" else query.what
        key = f"{key}:{query.of}" if query.of else key
        said = told.get(key, ())
        answer = HistoryAnswer(client=query.client, id=query.id)
        given = {"error": said} if isinstance(said, str) else {"rows": tuple(said)}
        web.others.publish(answer.model_copy(update=given))

    web.others.subscribe(HistoryQuery, reply)
    return asked


def bucket(start: datetime, state: str = "busy", *, seconds: float = 300, **values: Any) -> Row:
    """Return a bucket of a series."""
    row: Row = {
        "start": start.isoformat(),
        "resolution_seconds": seconds,
        "samples": 10,
        "seconds": seconds,
        f"{state}_seconds": seconds,
    }
    for name, value in values.items():
        row |= {name: value, f"{name}_min": value, f"{name}_max": value}
    return row


def use(hours: float, *, busy: float = 0, held: float = 0, **more: Any) -> Row:
    """Return what somebody used."""
    return {
        "gpu_hours": hours,
        "busy_hours": busy,
        "held_hours": held,
        "utilized_hours": hours / 2,
        "utilization_percent": 50.0,
        "energy_joules": 3.6e6,
        **more,
    }


def hours_of_the_week(share: Callable[[int, int], float]) -> list[Row]:
    """Return a row for each hour of the week with the share that people had."""
    return [
        {
            "weekday": day,
            "hour": f"{hour:02d}",
            "busy_hours": share(day, hour),
            "held_hours": 0.0,
            "ours_hours": 0.5,
            "dirty_hours": 0.0,
            "idle_hours": 0.5 - share(day, hour),
        }
        for day in range(1, 8)
        for hour in range(24)
    ]


def gpu_event(at: datetime, user: str, state: str = "busy", node: str = "atlas") -> Row:
    """Return an event of a GPU that somebody took."""
    return {
        "node": node,
        "kind": "gpu",
        "gpu": "GPU-atlas-0000",
        "at": at.isoformat(),
        "data": {
            "index": 0,
            "before": "idle",
            "state": state,
            "reasons": [f"{user} computes"],
            "holders": [{"pid": 1, "user": user}],
        },
    }


def a_run(at: datetime, entry: str = "fold", state: str = "evicted") -> Row:
    """Return a run as the recorder has it."""
    return {
        "node": "atlas",
        "run": f"{entry}-1",
        "entry": entry,
        "gpus": ["GPU-atlas-0000"],
        "user": "nobody",
        "state": state,
        "reason": "evicted",
        "cause_text": "alice is active at pts/3",
        "first_at": at.isoformat(),
        "started_at": at.isoformat(),
        "ended_at": (at + timedelta(hours=1)).isoformat(),
        "noticed_to_term_seconds": 0.0021,
        "term_to_exit_seconds": 0.184,
        "exit_to_clear_seconds": 0.412,
        "noticed_to_clear_seconds": 0.5981,
        "simulated": False,
    }
