"""Which GPUs are shown, by the page's address."""

from __future__ import annotations

import pytest

from services.web.filter import Filter, from_query
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


def test_all_words_must_fit(busy: Web) -> None:
    assert shown(busy, Filter(user="alice", state="idle")) == []
    assert shown(busy, Filter(node="atl", state="idle")) == [("atlas", 4)]


def test_a_node_that_is_not_online_is_found_by_that(busy: Web) -> None:
    assert {node for node, _ in shown(busy, Filter(state="stale"))} == {"draco"}
    assert {node for node, _ in shown(busy, Filter(state="offline"))} == {"cygnus"}


@pytest.mark.parametrize("gpus", ["", "0", "-1", "x", "1e3", "²", "9999999"])
def test_what_makes_no_sense_in_an_address_is_left_out(gpus: str) -> None:
    wanted = from_query({"state": "sleepy", "gpus": gpus, "other": "x"})

    assert wanted == Filter(gpus=1)


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
