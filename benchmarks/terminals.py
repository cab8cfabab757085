"""Pseudo-terminals that nobody else has, and somebody who types at one."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NEW_MOUNTS = 0x00020000
_AWAY_SECONDS = 3600
_UNLOCK, _NUMBER = 0x40045431, 0x80045430
"""TIOCSPTLCK and TIOCGPTN, see ioctl_tty(2)."""


@contextmanager
def private_terminals(directory: Path) -> Iterator[None]:
    """Have a `pts` of our own in a directory, seen by this process and its children alone.

    Else everybody who types on this machine would disturb what is measured. Needs root.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "a private /dev/pts needs root")
    folder = directory / "pts"
    folder.mkdir()
    for words in (
        ("--make-rprivate", "/"),
        ("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", str(folder)),
    ):
        subprocess.run(["mount", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Typist:
    """A terminal of another user with a program that reads it, and hands that type."""

    def __init__(self, directory: Path) -> None:
        self._master = os.open(directory / "pts" / "ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(self._master, _UNLOCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(self._master, _NUMBER, bytes(4)))
        self._path = directory / "pts" / str(number)
        terminal = os.open(self._path, os.O_RDWR | os.O_NOCTTY)
        os.fchown(terminal, 65534, 5)
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "cat"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            user=65534,
            group=65534,
            cwd="/",
        )
        os.close(terminal)

    def type(self) -> int:
        """Type a line; return CLOCK_MONOTONIC just before."""
        at = time.monotonic_ns()
        os.write(self._master, b"x\n")
        return at

    def be_away(self) -> None:
        """Have the terminal look unused for an hour; Linux would take eight seconds for one."""
        then = time.time() - _AWAY_SECONDS
        os.utime(self._path, (then, then))

    def end(self) -> None:
        """Log out."""
        self._process.kill()
        self._process.wait()
        os.close(self._master)
