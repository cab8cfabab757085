"""The local pause: a file that any user of the node may make, and whose presence is obeyed."""

from __future__ import annotations

import contextlib
import pwd
from pathlib import Path

from gleaner.settings import NodeSettings


def pause_file(settings: NodeSettings) -> Path:
    """Return the file whose presence pauses this node."""
    return settings.pause_file or settings.data_directory / "pause" / "pause"


def make_room(settings: NodeSettings) -> None:
    """Make the folder in our data directory, writable for everybody as /tmp is.

    The folder of a file that was configured is the administrator's: a user who may put a link
    there would have us open a folder of the system to everybody.
    """
    if settings.pause_file is None:
        folder = pause_file(settings).parent
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)


def paused_by(path: Path) -> str | None:
    """Return why the node is paused, in words, or None."""
    try:
        owner = path.lstat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"paused: {path} cannot be looked at ({error.strerror})"
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"user {owner}"
    return f"paused by {name} ({path} exists)"
