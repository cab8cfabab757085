"""What was before the web service was started."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from services.web.questions import Questions
from services.web.streaming.recall import recall_hour
from tests.web.conftest import Web


async def test_the_last_hour_from_before_a_restart_is_recalled_some_nodes_at_a_time(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.web.streaming.recall.PAUSE_SECONDS", 0)
    start = (web.now - timedelta(minutes=59)).isoformat()

    def reply(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        node = query.cursor or "atlas"
        rows = ({"node": node, "start": start, "gpus": {f"GPU-{node}": [7] * 60}}, {"odd": 1})
        answer = HistoryAnswer(client=query.client, id=query.id, rows=rows)
        more = {"cursor": "boreas"} if node == "atlas" else {}
        web.others.publish(answer.model_copy(update=more))

    web.others.subscribe(HistoryQuery, reply)
    await recall_hour(web.live, Questions(web.bus))

    found = web.live.last_hour(["atlas", "boreas"])
    assert found == {"GPU-atlas": (7,) * 60, "GPU-boreas": (7,) * 60}


async def test_a_recorder_that_does_not_know_of_last_hours_is_left_alone(web: Web) -> None:
    web.answer_queries(HistoryAnswer(client="web", id="", error="what is that"))

    await asyncio.wait_for(recall_hour(web.live, Questions(web.bus)), 2)
    assert web.live.last_hour(["atlas"]) == {}
