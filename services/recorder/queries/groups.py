"""Which group a user is in: by a file of `user: group`, else the primary group on this machine.

A directory service may take seconds to answer, so the answers are learned in a thread and kept for
a while.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import pwd
import time
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

KEPT_SECONDS = 600.0


class Groups:
    """What was learned; a user of whom nobody knows is in no group."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known: dict[str, str | None] = {}
        self._until = 0.0
        self._trouble = ""

    def of(self, user: str) -> str | None:
        """Return the group of a user who was learned."""
        return self._known.get(user)

    async def learn(self, users: Iterable[str]) -> None:
        """Find out whatever is not known, or was not looked at for a while."""
        if time.monotonic() >= self._until:
            self._known = {}
            self._until = time.monotonic() + KEPT_SECONDS
        if new := [user for user in users if user not in self._known]:
            self._known |= await asyncio.to_thread(self._ask, new)

    def _ask(self, users: list[str]) -> dict[str, str | None]:
        if self._file is None:
            return {user: _primary_group(user) for user in users}
        listed = self._read(self._file)
        return {user: listed.get(user) for user in users}

    def _read(self, file: Path) -> dict[str, str]:
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            if self._trouble != str(error):
                logger.warning("accounting.groups_file: %s; nobody's group is known", error)
            self._trouble = str(error)
            return {}
        self._trouble = ""
        pairs = (line.partition("#")[0].partition(":") for line in lines)
        return {user.strip(): group.strip() for user, _, group in pairs if group.strip()}


def _primary_group(user: str) -> str | None:
    try:
        return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
    except (KeyError, OSError, ValueError):
        return None
