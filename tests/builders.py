"""Values for tests that name only what matters, and waiting for a condition with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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


def open_to_others(tmp_path: Path) -> None:
    """Let other users enter a folder of a test; the folder for all temporary files stays as is."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001:
            return
        folder.chmod(0o755)
