"""What happens when on a simulated node."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.collector.simulated.script import (
    Player,
    Script,
    Visit,
    Work,
    a_lively_day,
    read_script,
)


def work(at: float, lasts: float | None = 10) -> Work:
    return Work(at=at, lasts=lasts, user="user1", gpus=(0,))


def played(player: Player, elapsed: float) -> list[tuple[float, str]]:
    return [(moment.at, moment.phase) for moment in player.due(elapsed)]


def test_everything_happens_once_and_in_order() -> None:
    player = Player(Script(work=(work(20), work(5, 100))), "n1")

    assert played(player, 25) == [(5, "begin"), (20, "begin")]
    assert played(player, 25) == []
    assert player.next_at == 30
    assert played(player, 1000) == [(30, "end"), (105, "end")]
    assert player.next_at is None


def test_a_script_begins_again() -> None:
    player = Player(Script(repeat_seconds=100, work=(work(5),)), "n1")
    played(player, 100)

    assert player.next_at == 105
    assert played(player, 110) == [(5, "begin")]


def test_what_has_no_end_ends_with_the_script() -> None:
    player = Player(Script(repeat_seconds=100, work=(work(5, None),)), "n1")

    assert played(player, 100) == [(5, "begin"), (100, "end")]


def test_a_machine_that_slept_through_many_repetitions_does_not_play_them_all() -> None:
    player = Player(Script(repeat_seconds=100, work=(work(5),)), "n1")
    played(player, 50)

    assert played(player, 1_000_007) == [(5, "begin")]
    assert player.next_at == 1_000_015


def test_a_visitor_types_for_a_while_and_leaves() -> None:
    visit = Visit(at=100, lasts=60, user="user1", types_for=25, types_every=10)

    assert list(visit.moments()) == [(100, "begin"), (110, "again"), (120, "again"), (160, "end")]


def test_the_same_node_lives_the_same_day_and_another_one_another() -> None:
    def day(node: str) -> list[tuple[float, str]]:
        return played(Player(a_lively_day(node, 4), node), 5400)

    assert day("n1") == day("n1")
    assert day("n1") != day("n2")


@given(st.text(min_size=1), st.integers(0, 16))
def test_a_lively_day_leaves_time_for_idle_work_and_ends_as_it_began(node: str, gpus: int) -> None:
    moments = list(Player(a_lively_day(node, gpus), node).due(5400))
    begun = [moment.entry for moment in moments if moment.phase == "begin"]
    ended = [moment.entry for moment in moments if moment.phase == "end"]
    keys = [one.at for one in moments if isinstance(one.entry, Visit) and one.phase != "end"]
    silences = [after - before for before, after in pairwise(keys)]

    assert sorted(map(str, begun)) == sorted(map(str, ended))
    assert sum(silence > 600 for silence in silences) >= 2


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text(
        """
        repeat_seconds = 600
        [[visit]]
        at = 60
        lasts = 300
        user = "user1"
        [[work]]
        at = 70
        user = "user1"
        gpus = [0, 1]
        [[fault]]
        at = 10
        lasts = 5
        gpu = 1
        lost = "GPU has fallen off the bus"
        [[driver]]
        at = 400
        lasts = 20
        problem = "no answer within 3 s"
        """
    )

    script = read_script(path, gpus=2)

    assert [entry.at for entry in script.entries] == [60, 70, 10, 400]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[work]]\nat = 1\nuser = 'a'\ngpus = [4]", "there is no GPU 4"),
        ("[[work]]\nat = 1\nuser = 'a'", "work.0.gpus: Field required"),
        ("[[party]]\nat = 1", "party: Extra inputs"),
        ("repeat_seconds = 10\n[[driver]]\nat = 5\nlasts = 6\nproblem = 'x'", "at 5 s ends after"),
        ("[[work", "script.toml:"),
    ],
)
def test_a_mistake_is_named_with_its_file(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "script.toml"
    path.write_text(text)

    with pytest.raises(ValueError, match=complaint) as error:
        read_script(path, gpus=4)
    assert str(path) in str(error.value)


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.toml"):
        read_script(tmp_path / "nothing.toml", gpus=1)
