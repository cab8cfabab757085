"""Values for tests that name only what matters, and waiting for a condition with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until a condition holds; fail after some seconds."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s") from None
