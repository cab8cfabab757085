"""The API keeps to its own description, whatever is sent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gleaner.bus.memory import MemoryBroker, MemoryBus
from services.web.data.api import make_api
from services.web.questions import Questions
from services.web.streaming.live import Live
from tests.web.site import Site

BUS = MemoryBus(MemoryBroker())
DESCRIPTION = make_api(Live(BUS), Questions(BUS)).openapi()
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = [(path, method) for path, one in DESCRIPTION["paths"].items() for method in one]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_as_described(site: Site, path: str, method: str) -> None:
    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = data.draw(SCHEMA[path][method.upper()].as_strategy())
        case.call_and_validate(base_url=f"{site.url}api")

    check()
