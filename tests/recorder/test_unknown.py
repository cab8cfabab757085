"""A name that was never recorded is told so, with those that come close."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.recorder.queries.unknown import Unrecorded
from services.recorder.store import Store
from tests.recorder.builders import an_event, url
from tests.recorder.test_search import ask, fill, gpu
from tests.recorder.test_store import NOW, numbers


@pytest.mark.parametrize(
    ("wanted", "what", "why"),
    [
        ({"user": "alcie"}, "user",
         "no user named 'alcie' was ever recorded; did you mean 'alice'?"),
        ({"user": "Bob"}, "user", "no user named 'Bob' was ever recorded; did you mean 'bob'?"),
        ({"user": "n1"}, "user", "no user named 'n1' was ever recorded"),
        ({"user": "fold", "what": "runs"}, "user", "no user named 'fold' was ever recorded"),
        ({"entry": "flod"}, "entry",
         "no workload named 'flod' was ever recorded; did you mean 'fold'?"),
        ({"node": "alice"}, "node", "no node named 'alice' was ever recorded"),
        ({"node": "n11"}, "node",
         "no node named 'n11' was ever recorded; did you mean 'n1'?"),
        ({"gpu": "gpu-f0"}, "gpu",
         "no GPU 'gpu-f0' was ever recorded; did you mean 'GPU-f00d'?"),
        ({"gpu": "GPU-3", "node": "n1"}, "gpu",
         "no GPU 'GPU-3' of node 'n1' was ever recorded; did you mean 'GPU-2' or 'GPU-1'?"),
        ({"gpu": "GPU-1", "node": "n2"}, "gpu",
         "no GPU 'GPU-1' of node 'n2' was ever recorded"),
    ],
)  # fmt: skip
async def test_an_unknown_name_is_told_with_those_that_come_close(
    tmp_path: Path, wanted: dict[str, Any], what: str, why: str
) -> None:
    async with Store(url(tmp_path)) as store:
        await fill(store)
        await store.write(numbers(gpu(9, "idle", gpu="GPU-f00d")), now=NOW)

        with pytest.raises(Unrecorded) as refused:
            await ask(store, **wanted)

        assert (refused.value.what, str(refused.value)) == (what, why)


async def test_who_is_known_otherwise_is_no_unknown_name(tmp_path: Path) -> None:
    async with Store(url(tmp_path)) as store:
        await store.write(numbers(an_event(1)), now=NOW)

        known = {"quotas": {"*": 1.0, "dora": 5.0}, "aliases": {"alice": "al"}}
        assert (await ask(store, known, user="dora")).rows == ()
        await store.write(numbers(gpu(2, "busy", {"user": "alice"})), now=NOW)
        for name in ("alice", "al"):
            assert [row["sequence"] for row in (await ask(store, known, user=name)).rows] == [2]
        with pytest.raises(Unrecorded, match=r"no user named 'zoe' was ever recorded$"):
            await ask(store, known, user="zoe")
