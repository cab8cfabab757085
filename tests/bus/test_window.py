"""Who has taken in enough waits, but not for ever."""

from __future__ import annotations

from gleaner.bus.window import PATIENCE_SECONDS, Window


def filled(count: int, *, of_bytes: int = 1, acknowledged_at: float | None = None) -> Window:
    window = Window(3, 100)
    for _ in range(count):
        window.receive(of_bytes)
    if acknowledged_at is not None:
        window.receive(1)
        window.acknowledge(1, acknowledged_at)
    return window


def test_it_is_full_while_what_it_took_in_is_being_acknowledged() -> None:
    assert not filled(2, acknowledged_at=7.0).is_full(7.5)
    assert filled(3, acknowledged_at=7.0).is_full(7.5)


def test_bytes_count_as_well_as_messages() -> None:
    assert not filled(1, of_bytes=99, acknowledged_at=7.0).is_full(7.5)
    window = filled(2, of_bytes=50, acknowledged_at=7.0)
    assert window.is_full(7.5)

    window.acknowledge(50, 7.6)

    assert not window.is_full(7.7)


def test_who_acknowledges_nothing_goes_on_reading() -> None:
    assert not filled(5).is_full(7.0)
    assert not filled(5, acknowledged_at=7.0).is_full(7.0 + PATIENCE_SECONDS)


def test_it_is_open_again_once_enough_was_acknowledged() -> None:
    window = filled(3, acknowledged_at=7.0)

    window.acknowledge(1, 7.1)

    assert not window.is_full(7.2)
