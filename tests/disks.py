"""A file system that is easily filled; needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Make a folder that has room for so much (`300k`, `2m`), for as long as this lasts."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    path.chmod(0o755)
    try:
        yield path
    finally:
        # Whoever was killed may hold a file there a moment longer.
        subprocess.run(["umount", "-l", path], check=True)


class SmallDisk:
    """A small file system in memory, which can be filled to the last byte."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, *, but: int = 0) -> None:
        """Leave no room, or only so many bytes."""
        filler = self.path / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)) == 4096:
                    continue
            except OSError:
                os.truncate(filler, max(0, filler.stat().st_size - but))

    def empty(self) -> None:
        """Give the room back."""
        (self.path / "filler").unlink()
