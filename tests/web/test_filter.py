"""Which GPUs are shown, by the page's address."""

from __future__ import annotations

import pytest

from services.web.shown.filter import Choices, Filter, from_query
from tests.web.conftest import Web


def shown(web: Web, wanted: Filter) -> list[tuple[str, int | None]]:
    nodes = wanted.of(web.live.snapshot().nodes)
    return [(gpu.node, gpu.index) for node in nodes for gpu in node.gpus]


def test_without_words_everything_is_shown(busy: Web) -> None:
    assert Filter().is_empty
    assert len(shown(busy, Filter())) == 23


def test_by_model_state_user_label_and_node(busy: Web) -> None:
    assert {node for node, _ in shown(busy, Filter(model="H100 80GB HBM3"))} == {"atlas"}
    assert shown(busy, Filter(state="held")) == [("atlas", 5)]
    assert shown(busy, Filter(user="alice")) == [("atlas", 0), ("atlas", 1)]
    assert {node for node, _ in shown(busy, Filter(label="nvlink"))} == {"atlas"}
    assert {node for node, _ in shown(busy, Filter(node="BOREAS"))} == {"boreas"}


def test_only_the_runs_of_gpus_that_are_shown_are_shown(busy: Web) -> None:
    nodes = busy.live.snapshot().nodes
    atlas = next(one for one in nodes if one.node == "atlas")
    wanted = Filter(node="atlas", state="ours")
    (shown_node,) = wanted.of(nodes)
    (alices,) = Filter(user="alice").of(nodes)

    with_runs = {gpu.gpu for gpu in shown_node.gpus}
    assert shown_node.runs
    assert all(set(run.gpus) <= with_runs for run in shown_node.runs)
    assert len(alices.runs) < len(atlas.runs)
    assert all(set(run.gpus) <= {gpu.gpu for gpu in alices.gpus} for run in alices.runs)


def test_all_words_must_fit(busy: Web) -> None:
    assert shown(busy, Filter(user="alice", state="idle")) == []
    assert shown(busy, Filter(node="atl", state="idle")) == [("atlas", 4)]


def test_a_node_that_is_not_online_is_found_by_that(busy: Web) -> None:
    assert {node for node, _ in shown(busy, Filter(state="stale"))} == {"draco"}
    assert {node for node, _ in shown(busy, Filter(state="offline"))} == {"cygnus"}


THERE = Choices(models=("H100", "A100"), labels=("nvlink",))


@pytest.mark.parametrize("gpus", ["0", "-1", "x", "1e3", "²", "9999999"])
def test_a_number_of_gpus_that_makes_no_sense_is_told(gpus: str) -> None:
    wanted, misread = from_query({"gpus": gpus}, THERE)

    assert wanted == Filter(gpus=1)
    assert misread == [f"{gpus!r} is no number of GPUs from 1 to 64; here are offers for 1."]


def test_more_gpus_than_any_node_has_are_told() -> None:
    wanted, misread = from_query({"gpus": "65"}, THERE)

    assert wanted.gpus == 64
    assert misread == ["'65' is no number of GPUs from 1 to 64; here are offers for 64."]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (
            "state",
            "There is no state 'x'; there are idle, busy, held, ours, dirty, lost, unknown, ",
        ),
        ("model", "There is no model 'x'; there are H100, A100. Here are all."),
        ("label", "There is no label 'x'; there is nvlink. Here are all."),
    ],
)
def test_what_is_unknown_in_an_address_is_told_with_what_there_is(word: str, told: str) -> None:
    wanted, (misread,) = from_query({word: "x"}, THERE)

    assert wanted == Filter()
    assert misread.startswith(told)


def test_whom_nobody_has_seen_may_still_come() -> None:
    assert from_query({"user": "eve", "node": "new"}, THERE) == (
        Filter(user="eve", node="new"),
        [],
    )


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("/?state=sleepy", "There is no state &#39;sleepy&#39;; there are idle, busy"),
        ("/?gpus=many", "&#39;many&#39; is no number of GPUs from 1 to 64; here are offers for 1."),
        ("/?colour=red", "&#39;colour&#39; means nothing to this page and was left out."),
        ("/?refresh=soon", "&#39;soon&#39; is no number of seconds from 5 on; without script"),
        ("/node/atlas?colour=red", "&#39;colour&#39; means nothing to this page"),
    ],
)
async def test_the_page_tells_what_it_does_not_know(busy: Web, address: str, told: str) -> None:
    page = (await busy.client.get(address)).text

    assert told in page
    assert page.count('id="misread"') == 1
    assert 'id="misread"' not in (await busy.client.get("/?state=held&gpus=2&refresh=9")).text


async def test_the_page_without_script_shows_what_the_address_says(busy: Web) -> None:
    page = (await busy.client.get("/?state=held&gpus=2")).text

    assert page.count('<a class="tile') == 1
    assert "1 of 23 match" in page
    assert '<option selected value="held">' in page
    assert "node-boreas" not in page
    # Three GPUs are free on Boreas, so two can be had there.
    assert "CUDA_VISIBLE_DEVICES=GPU-boreas-0001,GPU-boreas-0002 exec" in page


@pytest.mark.parametrize(("text", "seconds"), [("5", 5), ("x", 30), ("0", 30), ("600", 600)])
async def test_how_often_a_page_without_script_reloads(busy: Web, text: str, seconds: int) -> None:
    page = (await busy.client.get(f"/?refresh={text}")).text

    assert f'<meta http-equiv="refresh" content="{seconds}">' in page
