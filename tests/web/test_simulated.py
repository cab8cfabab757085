"""What never really happened is said wherever sums may have it in them."""

from __future__ import annotations

from gleaner.tell import tell_simulated
from tests.web.conftest import Web

PART = "Part of this is simulated and never really happened: that of node sim-0."


def test_it_says_how_much_of_it_is_simulated() -> None:
    whole = "All nodes are simulated: nothing of this really happened."
    assert tell_simulated([("a", False)]) is None
    assert tell_simulated([]) is None
    assert tell_simulated([("a", True), ("b", True)]) == whole
    assert tell_simulated([("a", True), ("b", False)], only=False) == PART.replace("sim-0", "a")
    one = "This node is simulated: nothing of this really happened."
    assert tell_simulated([("a", True)], only=True) == one
    many = tell_simulated([("real", False), *((name, True) for name in "abcde")])
    assert many
    assert many.endswith("that of nodes a, b, c and 2 more.")


async def test_usage_and_history_say_so(busy: Web) -> None:
    for page in ("/usage", "/history"):
        assert PART in (await busy.client.get(page)).text
        assert "never really happened" not in (await busy.client.get(f"{page}?node=atlas")).text
