"""The application over HTTP: pages, API, metrics, health, changes."""

from __future__ import annotations

import html
import json
import re

import httpx2
import pytest

from gleaner.bus.messages import HistoryAnswer, RequestKind
from services.web.shown.view import Snapshot
from tests.web.conftest import BOB, Web
from tests.web.example import MARKUP


def words(page: str) -> str:
    """Return what a reader sees of a page."""
    body = re.sub(r"<(style|script|svg|title).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


READINGS = (
    "utilization_percent",
    "memory_used_bytes",
    "temperature_celsius",
    "power_watts",
    "unattributed_memory_bytes",
)
"""In the order in which the stream says them."""


async def test_the_page_says_it_all_without_script(busy: Web) -> None:
    page = await busy.client.get("/")

    assert page.status_code == 200
    text = words(page.text)
    for expected in (
        "9 of 23 GPUs free",
        "alice · python train.py",
        "idle for 24 of 60 s",
        "carol is active at pts/1",
        "Drained by olga: new fans on Monday",
        "This node is simulated",
        "Nothing here is current: offline.",
        "within milliseconds (fanotify)",
        "8.0 MB/s in, 0.4 MB/s out",
        "Up for 12 d 0 h",
        "was busy: dan draws (pid 808, blender)",
        "598 ms",
        "held: it failed 5 times in a row (exit 139)",
        "Not root: other users' files cannot be seen",
    ):
        assert expected in text


async def test_names_are_text_and_never_markup(busy: Web) -> None:
    page = await busy.client.get("/")

    assert MARKUP not in page.text
    assert html.escape(MARKUP, quote=False) in page.text


async def test_page_api_and_stream_show_the_same(busy: Web) -> None:
    event = await anext(busy.live.events())
    streamed = json.loads(event.decode().splitlines()[2].removeprefix("data: "))
    fleet = (await busy.client.get("/api/fleet")).json()
    page = words((await busy.client.get("/")).text)

    readings = {one["node"]: one for one in streamed.pop("readings")}
    for node in streamed["nodes"]:
        node |= {key: readings[node["node"]][key] for key in ("readings_at", "host_reading")}
        for gpu, numbers in zip(node["gpus"], readings[node["node"]]["gpus"], strict=True):
            gpu |= dict(zip(READINGS, numbers, strict=True))
    assert fleet.pop("readings") == []
    assert streamed == fleet
    assert fleet["overview"]["headline"] in page
    for node in fleet["nodes"]:
        assert node["name"] in page
        for gpu in node["gpus"]:
            assert (f"was {gpu['last']}" if gpu["last"] else gpu["summary"]) in page
            for blocker in gpu["blockers"] or []:
                assert blocker["text"] in page


async def test_the_parts_of_the_api_are_those_of_the_fleet(busy: Web) -> None:
    fleet = (await busy.client.get("/api/fleet")).json()
    gpus = (await busy.client.get("/api/gpus")).json()
    blockers = (await busy.client.get("/api/blockers")).json()

    assert (await busy.client.get("/api/nodes")).json() == fleet["nodes"]
    assert (await busy.client.get("/api/nodes/atlas")).json() == fleet["nodes"][0]
    assert gpus == [gpu for node in fleet["nodes"] for gpu in node["gpus"]]
    assert [one["blockers"] for one in blockers] == [gpu["blockers"] for gpu in gpus]
    assert len((await busy.client.get("/api/runs")).json()) == 4
    assert Snapshot.model_validate_json(json.dumps(fleet)) == busy.live.snapshot()


async def test_an_unknown_node_is_not_found(busy: Web) -> None:
    answer = await busy.client.get("/api/nodes/nowhere")
    page = await busy.client.get("/node/%3Cb%3Enowhere")

    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("There is no node 'nowhere'; there are atlas, boreas")
    assert page.status_code == 404
    assert "There is no node '<b>nowhere'; there are atlas" in words(page.text)
    assert "<b>nowhere" not in page.text
    assert page.text.count("<h1") == 1


async def test_what_is_not_known_is_one_dash_without_a_unit(busy: Web) -> None:
    page = words((await busy.client.get("/")).text)

    assert "– GiB" not in page
    assert "7 – –" not in page


async def test_a_node_has_a_page_of_its_own(busy: Web) -> None:
    page = await busy.client.get("/node/boreas")

    assert "All nodes › Boreas" in words(page.text)
    assert "boreas.example.org" in page.text
    assert "cygnus.example.org" not in page.text
    assert "Boreas: 3 of 4 GPUs free 1 busy" in words(page.text)
    assert "of 23 GPUs" not in words(page.text)
    assert 'href="../static/page.css' in page.text


async def test_health_follows_the_broker(busy: Web) -> None:
    assert (await busy.client.get("/healthz")).status_code == 200
    busy.bus.disconnect()

    health = await busy.client.get("/healthz")

    assert (health.status_code, health.text) == (503, "the broker cannot be reached\n")
    assert "This page has lost the broker" in (await busy.client.get("/")).text


@pytest.mark.parametrize("kind", list(RequestKind))
async def test_a_change_goes_to_the_scheduler_and_its_answer_comes_back(
    busy: Web, kind: RequestKind
) -> None:
    busy.answer_requests()

    answer = await busy.client.post(
        f"/api/{kind.value}", json={"node": "atlas", "reason": "new fans", "by": "olga"}
    )

    assert (answer.status_code, answer.json()) == (200, {"ok": True, "text": f"{kind.value} done"})
    (request,) = busy.asked
    assert (request.kind, request.node, request.reason, request.by) == (
        kind,
        "atlas",
        "new fans",
        "olga",
    )


async def test_a_refusal_of_the_scheduler_is_a_conflict(busy: Web) -> None:
    busy.answer_requests(ok=False)

    answer = await busy.client.post("/api/drain", json={"node": "nowhere"})

    assert (answer.status_code, answer.json()["text"]) == (409, "there is no such node")


async def test_a_silent_scheduler_is_said_clearly(busy: Web) -> None:
    answer = await busy.client.post("/api/pause", json={})

    assert answer.status_code == 503
    assert answer.json() == {"detail": "the scheduler did not answer within 0.3 s"}


async def test_without_broker_nobody_is_asked(busy: Web) -> None:
    busy.bus.disconnect()

    answer = await busy.client.post("/api/pause", json={})

    assert answer.json()["detail"] == "the scheduler was not asked: the broker cannot be reached"


@pytest.mark.parametrize(
    "body",
    ['{"node": "a/b"}', '{"what": 1}', "[]", "nonsense", '{"reason":1}', r'{"reason":"\u001b[2J"}'],
)
async def test_a_change_that_makes_no_sense_is_refused(busy: Web, body: str) -> None:
    answer = await busy.client.post(
        "/api/pause", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 422


async def test_the_form_works_without_script(busy: Web) -> None:
    busy.answer_requests()

    sent = await busy.client.post(
        "/control", data={"kind": "pause", "node": "", "reason": "<b>fans</b>"}
    )
    page = await busy.client.get(f"/{sent.headers['location'].removeprefix('./')}")

    assert sent.status_code == 303
    assert "pause done" in words(page.text)
    assert (busy.asked[0].node, busy.asked[0].reason) == (None, "<b>fans</b>")


async def test_a_form_that_makes_no_sense_is_said_so(busy: Web) -> None:
    for data in ({"kind": "format"}, {"kind": "pause", "duration_seconds": "inf"}, {}):
        sent = await busy.client.post("/control", data=data)
        page = await busy.client.get(f"/{sent.headers['location'].removeprefix('./')}")
        assert "The form was not understood." in page.text


async def test_events_come_from_the_recorder(busy: Web) -> None:
    busy.answer_queries(HistoryAnswer(client="web", id="", rows=({"kind": "gpu"},), cursor="c2"))

    answer = await busy.client.get("/api/events?node=atlas&limit=5&since=2026-11-21T00:00:00Z")

    assert answer.json() == {"rows": [{"kind": "gpu"}], "cursor": "c2"}
    assert (busy.queried[0].node, busy.queried[0].limit) == ("atlas", 5)


async def test_a_silent_recorder_is_said_clearly(busy: Web) -> None:
    answer = await busy.client.get("/api/events")

    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "the recorder did not answer within 0.3 s",
    )


async def test_security_headers_are_on_everything(busy: Web) -> None:
    for path in ("/", "/api/fleet", "/metrics", "/static/page.css", "/nowhere"):
        headers = (await busy.client.get(path)).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_the_page_has_nothing_that_its_own_policy_forbids(busy: Web) -> None:
    page = (await busy.client.get("/")).text

    assert " style=" not in page
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\bon[a-z]+=", page.replace(html.escape(MARKUP), ""))
    assert "http://" not in page
    assert "https://" not in page


async def test_a_foreign_name_is_refused_with_words(busy: Web) -> None:
    async with busy.browser(host="evil.example") as stranger:
        answer = await stranger.get("/")
        api = await stranger.get("/api/fleet")

    assert (answer.status_code, api.status_code) == (421, 421)
    assert "web.allowed_hosts" in answer.text
    assert "web.allowed_hosts" in api.json()["detail"]


async def test_a_foreign_page_changes_nothing(busy: Web) -> None:
    busy.answer_requests()
    for path in ("/api/pause", "/control"):
        answer = await busy.client.post(path, json={}, headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
    assert busy.asked == []


async def test_who_may_not_change_anything_sees_no_buttons(busy: Web) -> None:
    async with busy.browser("192.168.7.9", "192.168.7.4:8080") as stranger:
        page = await stranger.get("/")
        answer = await stranger.post("/api/pause", json={})

    assert '<form class="control"' not in page.text
    assert "web.control_token_file" in page.text
    assert answer.status_code == 403
    assert "web.control_token_file" in answer.json()["detail"]


async def test_another_user_of_this_machine_sees_no_buttons_either(busy: Web) -> None:
    busy.user = BOB

    page = (await busy.client.get("/")).text
    answer = await busy.client.post("/api/pause", json={})

    assert "Pause the fleet" not in page
    assert "for root and the user who runs Gleaner" in words(page)
    assert answer.status_code == 403


async def test_the_token_opens_the_controls_to_other_machines() -> None:
    web = Web(token="secret")
    async with web.others, web.bus, web.browser("192.168.7.9", "192.168.7.4") as far:
        web.answer_requests()
        refused = await far.post("/api/pause", json={})
        done = await far.post("/api/pause", json={}, headers={"authorization": "Bearer secret"})

    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert done.status_code == 200


async def test_static_files_may_be_kept_for_ever(busy: Web) -> None:
    page = (await busy.client.get("/")).text
    style = re.search(r'href="\./(static/page\.css\?v=\w+)"', page)

    assert style
    answer: httpx2.Response = await busy.client.get(f"/{style[1]}")
    assert "immutable" in answer.headers["cache-control"]


async def test_the_api_describes_itself(busy: Web) -> None:
    document = (await busy.client.get("/api/openapi.json")).json()

    assert document["servers"] == [{"url": "/api"}]
    assert set(document["paths"]["/pause"]["post"]["responses"]) >= {
        "200",
        "401",
        "403",
        "409",
        "503",
    }
    assert (await busy.client.get("/api/docs")).status_code == 404


async def test_a_page_that_is_not_there_says_so_and_leads_back(web: Web) -> None:
    found = await web.client.get("/nodes/atlas/<b>", headers={"accept": "text/html"})

    assert found.status_code == 404
    assert "There is no page '/nodes/atlas/<b>'." in words(found.text)
    assert '<a href="../../">All nodes</a>' in found.text
    plain = await web.client.get("/static/nothing.js")
    assert (plain.status_code, plain.text) == (404, "there is nothing of this name\n")
