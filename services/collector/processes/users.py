"""Names of users, without ever waiting for a directory server that is slow today."""

from __future__ import annotations

import functools
import pwd

from services.collector.patience import Patience


class UserNames:
    """User ids to names; a name that takes long is there the next time somebody asks."""

    def __init__(self) -> None:
        self._names = Patience[int, str]()

    def of(self, user_id: int) -> str | None:
        """Return the name, or None if there is none or it is still being looked up."""
        return self._names.of(user_id, functools.partial(_look_up, user_id))

    def knows(self, user_id: int) -> bool:
        """Return whether the answer is final."""
        return self._names.knows(user_id)


def _look_up(user_id: int) -> str | None:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return None
