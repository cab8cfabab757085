"""Ask what may be slow today (a directory server, a disk) without ever waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

PATIENCE_SECONDS = 0.005
"""From a local file or cache an answer comes in microseconds; the reflex waits no longer."""
MOST = 1000

K = TypeVar("K")
V = TypeVar("V")


class Patience(Generic[K, V]):
    """Answers, each looked for once; one that takes long is there the next time it is asked for."""

    def __init__(self) -> None:
        self._found: dict[K, V | None] = {}
        self._asked: set[K] = set()

    def of(self, key: K, look_up: Callable[[], V | None]) -> V | None:
        """Return the answer, or None if there is none or it is still being looked up."""
        if key not in self._asked:
            if len(self._asked) >= MOST:
                self._asked.clear()
                self._found.clear()
            self._asked.add(key)
            search = threading.Thread(
                target=self._keep, args=(key, look_up), name=f"look up {key}", daemon=True
            )
            search.start()
            search.join(PATIENCE_SECONDS)
        return self._found.get(key)

    def knows(self, key: K) -> bool:
        """Return whether the answer is final."""
        return key in self._found

    def _keep(self, key: K, look_up: Callable[[], V | None]) -> None:
        self._found[key] = look_up()
