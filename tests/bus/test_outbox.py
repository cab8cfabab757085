"""The outbox: what a node must not lose, and what may go wrong with its file."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gleaner.bus import outbox as module
from gleaner.bus.messages import Event
from gleaner.bus.outbox import MAX_EVENT_BYTES, Outbox
from tests.builders import NOW

ALL = 1_000_000


def an_event(text: str = "") -> Event:
    return Event(
        node="n1",
        stream="",
        sequence=0,
        oldest_sequence=0,
        kind="test",
        data={"text": text},
        boot_id="boot",
        at=NOW,
    )


def all_of(outbox: Outbox) -> list[Event]:
    return outbox.after({}, ALL, ALL)


def texts(outbox: Outbox) -> list[object]:
    return [event.data["text"] for event in all_of(outbox)]


def test_events_are_numbered_from_one_and_sent_in_order() -> None:
    with Outbox(None) as outbox:
        outbox.append(an_event("a"))
        outbox.append(an_event("b"))

        assert [(one.stream, one.sequence, one.oldest_sequence) for one in all_of(outbox)] == [
            (outbox.stream, 1, 1),
            (outbox.stream, 2, 1),
        ]


def test_what_is_recorded_is_forgotten_and_the_oldest_number_moves() -> None:
    with Outbox(None) as outbox:
        for text in "abc":
            outbox.append(an_event(text))

        assert outbox.forget({outbox.stream: 2, "another": 9}) == 2

        assert [(one.sequence, one.oldest_sequence) for one in all_of(outbox)] == [(3, 3)]
        assert outbox.forget({outbox.stream: 2}) == 0


def test_only_what_fits_the_window_is_sent() -> None:
    with Outbox(None) as outbox:
        for number in range(10):
            outbox.append(an_event(str(number)))

        assert [one.sequence for one in outbox.after({outbox.stream: 3}, 5, ALL)] == [4, 5]
        assert [one.sequence for one in outbox.after({outbox.stream: 3}, ALL, 2)] == [4, 5]
        assert outbox.after({outbox.stream: 5}, 5, ALL) == []


def test_events_outlive_their_process_in_the_stream_they_were_made_in(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        first = outbox.stream
        outbox.append(an_event("a"))
        outbox.append(an_event("b"))

    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.append(an_event("c"))

        assert [(one.stream, one.sequence) for one in all_of(outbox)] == [
            (first, 1),
            (first, 2),
            (outbox.stream, 1),
        ]
        assert outbox.stream != first


def test_what_was_forgotten_does_not_come_back(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        for text in "abc":
            outbox.append(an_event(text))
        outbox.forget({outbox.stream: 2})

    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        assert texts(outbox) == ["c"]
        outbox.forget({all_of(outbox)[0].stream: 3})

    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        assert len(outbox) == 0


def test_when_it_is_full_the_oldest_go_and_are_counted() -> None:
    with Outbox(None, max_bytes=100_000) as outbox:
        for number in range(1000):
            outbox.append(an_event(str(number)))

        dropped = outbox.overflow()

        assert outbox.overflow() == 0
        assert [one.sequence for one in all_of(outbox)] == list(range(dropped + 1, 1001))
        assert all_of(outbox)[0].oldest_sequence == dropped + 1


def test_an_event_too_large_for_the_bus_becomes_a_problem(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Outbox(None) as outbox:
        outbox.append(an_event("x" * MAX_EVENT_BYTES))

        (event,) = all_of(outbox)
        assert event.kind == "problem"
        assert "too large" in str(event.data["text"])
    assert "too large" in caplog.text


def test_a_damaged_file_is_kept_aside_and_said_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(b"rubbish" * 1000)

    with Outbox(path) as outbox:
        outbox.append(an_event("a"))
        assert texts(outbox) == ["a"]

    (aside,) = tmp_path.glob("outbox.sqlite.aside-*")
    assert aside.read_bytes() == b"rubbish" * 1000
    assert str(path) in caplog.text
    assert aside.name in caplog.text
    with Outbox(path) as outbox:
        assert texts(outbox) == ["a"]


def damaged(path: Path, statement: str) -> None:
    """Make an outbox with three events, and do something to its file behind its back."""
    with Outbox(path) as outbox:
        for text in "abc":
            outbox.append(an_event(text))
    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE event SET body = x'00' WHERE sequence = 2",
        "DELETE FROM event WHERE sequence = 2",
    ],
)
def test_a_row_that_rotted_or_vanished_is_a_problem_and_holds_nobody_up(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "outbox.sqlite"
    damaged(path, damage)

    with Outbox(path) as outbox:
        assert [(one.sequence, one.kind) for one in all_of(outbox)] == [
            (1, "test"),
            (2, "problem"),
            (3, "test"),
        ]


def test_rows_that_make_no_sense_are_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.sqlite"
    damaged(path, "UPDATE event SET sequence = 1000000000 WHERE sequence = 3")

    with Outbox(path) as outbox:
        assert len(outbox) == 0
    assert "number 1000000000 after 2" in caplog.text


def test_a_file_of_another_machine_is_kept_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_machine", lambda: "one")
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.append(an_event("of the original"))
    monkeypatch.setattr(module, "_machine", lambda: "copy")

    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        assert texts(outbox) == []

    assert "another machine" in caplog.text


def test_a_file_of_another_layout_is_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = sqlite3.connect(tmp_path / "outbox.sqlite")
    database.execute("PRAGMA user_version=99")
    database.close()

    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.append(an_event())

    assert "layout 99" in caplog.text


def test_a_file_in_use_by_another_process_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCKED_SECONDS", 0.02)
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as first:
        first.append(an_event("a"))
        with Outbox(path) as second:
            second.append(an_event("b"))
            assert texts(second) == ["b"]

    assert "locked" in caplog.text
    assert not list(tmp_path.glob("*.aside-*"))
    with Outbox(path) as outbox:
        assert "a" in texts(outbox)


def test_a_folder_that_cannot_be_made_is_said_and_memory_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")

    with Outbox(tmp_path / "file" / "outbox.sqlite") as outbox:
        outbox.append(an_event("a"))
        assert texts(outbox) == ["a"]

    assert caplog.records[0].levelno == logging.ERROR
    assert "memory only" in caplog.text


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["append", "forget", "reopen"]), max_size=30), st.randoms())
def test_it_holds_what_a_list_would_hold(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], random: object
) -> None:
    path = tmp_path_factory.mktemp("outbox") / "outbox.sqlite"
    expected: list[tuple[str, int]] = []
    outbox = Outbox(path).__enter__()
    try:
        for step in steps:
            if step == "append":
                kept = outbox.append(an_event())
                expected.append((kept.stream, kept.sequence))
            elif step == "forget" and expected:
                stream, upto = random.choice(expected)  # type: ignore[attr-defined]
                outbox.forget({stream: upto})
                expected = [one for one in expected if one[0] != stream or one[1] > upto]
            elif step == "reopen":
                outbox.__exit__()
                outbox = Outbox(path).__enter__()
            assert [(one.stream, one.sequence) for one in all_of(outbox)] == expected
    finally:
        outbox.__exit__()
