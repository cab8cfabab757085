"""History for programs over HTTP: pages of JSON and whole files, and what is refused."""

from __future__ import annotations

import csv
import io

import pytest

from gleaner.bus.interface import Delivery
from gleaner.bus.messages import HistoryAnswer, HistoryQuery
from tests.web.canned import tell, use
from tests.web.conftest import Web


async def test_the_api_answers_in_pages_and_as_a_file(web: Web) -> None:
    rows = [{"user": "=cmd()", "entry": None, **use(3)}, {"user": "bob", **use(1)}]
    asked = tell(web, {"usage:user": rows})

    page = await web.client.get("/api/history/usage?by=user&node=atlas&limit=7")
    file = await web.client.get("/api/history/usage?by=user&format=csv")

    assert page.json() == {"rows": rows, "cursor": None, "looked_back_to": None}
    assert (asked[0].node, asked[0].limit) == ("atlas", 7)
    assert file.headers["content-type"].startswith("text/csv")
    assert "gleaner-usage.csv" in file.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(file.text)))
    assert [row["user"] for row in table] == ["'=cmd()", "bob"]
    assert table[0]["gpu_hours"] == "3"


async def test_a_file_turns_all_pages(web: Web) -> None:
    def reply(delivery: Delivery) -> None:
        query = delivery.message
        assert isinstance(query, HistoryQuery)
        number = int(query.cursor or 0)
        answer = HistoryAnswer(client=query.client, id=query.id, rows=({"kind": f"k{number}"},))
        more = {"cursor": str(number + 1)} if number < 3 else {}
        web.others.publish(answer.model_copy(update=more))

    web.others.subscribe(HistoryQuery, reply)
    file = await web.client.get("/api/history/events?format=csv")

    assert [row["kind"] for row in csv.DictReader(io.StringIO(file.text))] == [
        "k0", "k1", "k2", "k3",
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["usage?by=day&", "series?gpu=G&", "quotas?", "runs?"])
async def test_a_file_with_nothing_in_it_has_its_heading(web: Web, what: str) -> None:
    tell(web, {})
    file = await web.client.get(f"/api/history/{what}format=csv")

    (heading,) = file.text.splitlines()
    assert heading.count(",") > 3


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("series?points=0", 422),
        ("series?limit=1001", 422),
        ("usage?by=colour", 422),
        ("usage?unheard_of=1", 422),
        ("sessions?node=../../etc", 422),
        ("events?since=yesterday", 422),
        ("quotas", 422),
        ("events?kind=banana", 422),
    ],
)
async def test_the_api_refuses_what_it_cannot_answer(web: Web, query: str, status: int) -> None:
    tell(web, {"quotas": "this recorder cannot tell of quotas"})
    answer = await web.client.get(f"/api/history/{query}")

    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("gpus?colour=red", "There is no parameter 'colour'; there are none."),
        ("last-hour?nodes=a", "There is no parameter 'nodes'; there is node."),
        ("last-hour?node=nowhere", "There is no node 'nowhere'; there are atlas, boreas"),
        ("nodes/nowhere", "There is no node 'nowhere'; there are atlas, boreas"),
        (
            "history/latencies?user=a",
            "There is no parameter 'user'; there are node, since, until, ",
        ),
        ("history/usage?by=colour", "by 'colour': Input should be 'user', 'group'"),
        ("events?what=all", "what 'all': Input should be 'events' or 'runs'"),
        ("events?kind=gpus", "kind 'gpus': there are node_started, gpu, "),
        ("history/events?kind=gpus", "kind 'gpus': there are node_started, gpu, "),
        ("history/events?state=sleepy", "state 'sleepy': there are idle, busy, "),
        ("history/runs?state=idle", "state 'idle': there are "),
        ("export/all", "what 'all': Input should be "),
    ],
)
async def test_the_api_says_in_a_sentence_what_it_does_not_know(
    busy: Web, path: str, told: str
) -> None:
    answer = await busy.client.get(f"/api/{path}")

    assert answer.status_code in (400, 404, 422)
    assert answer.json()["detail"].startswith(told)
