"""The local pause: a file that any user of the node may make, and whose presence is obeyed."""

from __future__ import annotations

import contextlib
import os
import pwd
from pathlib import Path

from gleaner.settings import NodeSettings


def pause_file(settings: NodeSettings) -> Path:
    """Return the file whose presence pauses this node."""
    return settings.pause_file or settings.data_directory / "pause" / "pause"


def make_room(path: Path) -> None:
    """Make the file's folder, writable for everybody as /tmp is, if it is ours to make."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.stat().st_uid == os.geteuid() and path.parent.name == "pause":
            path.parent.chmod(0o1777)


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
