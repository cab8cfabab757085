"""A node whose clock is far off is told of in the log of the server."""

from __future__ import annotations

import pytest

from services.web.clocks import tell_wrong_clocks
from tests.web.conftest import Web


async def test_a_clock_that_is_far_off_is_told_once_and_when_it_is_right_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    web = Web()
    async with web.others, web.bus:
        tell_wrong_clocks(web.bus, lambda: web.now)
        fleet = web.example()
        await web.say([fleet.beat("atlas", hours=-1), fleet.beat("atlas", hours=-1)])
        await web.say([fleet.beat("boreas", hours=1), fleet.beat("cygnus", seconds=50)])
        await web.say([fleet.beat("atlas")])
        web.live.close()

    what = "and what is recorded of it bears its times; is a time service running?"
    assert caplog.messages == [
        f"atlas: its clock is 60 min ahead of ours, {what}",
        f"boreas: its clock is 60 min behind ours, {what}",
        "atlas: its clock is right again",
    ]
