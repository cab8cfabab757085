"""A file system that is easily filled; needs root."""

from __future__ import annotations

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
