"""Names of users, without ever waiting for a directory server that is slow today."""

from __future__ import annotations

import pwd
import threading

PATIENCE_SECONDS = 0.005
"""A name from a local file or cache comes in microseconds; the reflex waits no longer than this."""


class UserNames:
    """User ids to names; a name that takes long is there the next time somebody asks."""

    def __init__(self) -> None:
        self._names: dict[int, str | None] = {}
        self._asked: set[int] = set()

    def of(self, user_id: int) -> str | None:
        """Return the name, or None if there is none or it is still being looked up."""
        if user_id not in self._asked:
            self._asked.add(user_id)
            search = threading.Thread(
                target=self._look_up, args=(user_id,), name="user name", daemon=True
            )
            search.start()
            search.join(PATIENCE_SECONDS)
        return self._names.get(user_id)

    def knows(self, user_id: int) -> bool:
        """Return whether the answer is final."""
        return user_id in self._names

    def _look_up(self, user_id: int) -> None:
        try:
            self._names[user_id] = pwd.getpwuid(user_id).pw_name
        except KeyError:
            self._names[user_id] = None
