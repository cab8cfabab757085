"""Values for tests that name only what matters, and waiting for a condition with a deadline."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until a condition holds; fail after some seconds."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s") from None


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder for one test that other users may enter; pytest's `tmp_path` is closed to them."""
    with tempfile.TemporaryDirectory(prefix="gleaner-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
