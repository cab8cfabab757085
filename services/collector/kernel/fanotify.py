"""Hear from fanotify which process opened a device or read from a terminal.

Events name the file by its handle (FAN_REPORT_FID), not by an open file: opening a GPU's device
or a terminal in order to report that somebody else did would be an event of its own. As root the
pid is told; without root the kernel leaves it out. See fanotify(7), fanotify_mark(2).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.collector.interface import Notice, NoticedBy

_CLASS_NOTIF_CLOEXEC_NONBLOCK_FID = 0x0 | 0x1 | 0x2 | 0x200
_MARK_ADD, _MARK_REMOVE = 0x1, 0x2
_ACCESS, _OPEN, _CREATE, _OVERFLOW = 0x1, 0x20, 0x100, 0x4000
_AT_CWD = -100
_AT_HANDLE_FID, _AT_SYMLINK_FOLLOW = 0x200, 0x400
_FILE_ID = 1
_MAX_HANDLE = 128
_BUFFER_BYTES = 64 * 1024
_EVENT = struct.Struct("=IBBHQii")
"""Length of the event, version, reserved, length of this part, mask, file (none), pid."""
_INFO = struct.Struct("=BBHQIi")
"""Kind, padding, length, file system, length and type of the handle that follows."""

_Key = tuple[int, int, bytes]
"""File system, type of the handle, handle: the name of an inode."""
Handler = Callable[[Notice], None]


class _Handle(ctypes.Structure):
    _fields_ = (
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("handle", ctypes.c_ubyte * _MAX_HANDLE),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_mark.argtypes = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_char_p,
)
_libc.name_to_handle_at.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(_Handle),
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
)


@dataclass(frozen=True, kw_only=True)
class _Watch:
    path: Path
    mask: int
    handler: Handler


class Fanotify:
    """Notices from one fanotify group; made in a running event loop; OSError if not allowed."""

    by: NoticedBy = "fanotify"
    reads_by: NoticedBy = "fanotify"

    def __init__(self) -> None:
        self._watches: dict[_Key, _Watch] = {}
        self._keys: dict[Path, _Key] = {}
        self._loop = asyncio.get_running_loop()
        flags = os.O_RDONLY | os.O_CLOEXEC
        self._group = _checked(_libc.fanotify_init(_CLASS_NOTIF_CLOEXEC_NONBLOCK_FID, flags))
        self._loop.add_reader(self._group, self._read)

    def watch_opens(self, path: Path, handler: Handler) -> bool:
        """See `Notices.watch_opens`."""
        return self._watch(path, _OPEN, handler)

    def watch_reads(self, path: Path, handler: Handler) -> bool:
        """See `Notices.watch_reads`."""
        return self._watch(path, _ACCESS, handler)

    def watch_made(self, directory: Path, handler: Handler) -> bool:
        """See `Notices.watch_made`."""
        return self._watch(directory, _CREATE, handler)

    def unwatch(self, path: Path) -> None:
        """See `Notices.unwatch`."""
        key = self._keys.pop(path, None)
        if key is None:
            return
        watch = self._watches.pop(key)
        with contextlib.suppress(OSError):  # The mark went with the inode.
            self._mark(_MARK_REMOVE, watch.mask, path)

    def close(self) -> None:
        """See `Notices.close`."""
        if self._group >= 0:
            self._loop.remove_reader(self._group)
            os.close(self._group)
            self._group = -1

    def _watch(self, path: Path, mask: int, handler: Handler) -> bool:
        try:
            key = _key(path)
            # Always marked anew: a terminal whose number is used again has the same handle as the
            # one before, but an inode without our mark.
            self._mark(_MARK_ADD, mask, path)
        except OSError:
            self.unwatch(path)
            return False
        if self._keys.get(path, key) != key:
            self._watches.pop(self._keys[path], None)
        self._keys[path] = key
        self._watches[key] = _Watch(path=path, mask=mask, handler=handler)
        return True

    def _mark(self, flags: int, mask: int, path: Path) -> None:
        _checked(_libc.fanotify_mark(self._group, flags, mask, _AT_CWD, os.fsencode(path)))

    def _read(self) -> None:
        try:
            events = os.read(self._group, _BUFFER_BYTES)
        except BlockingIOError:
            return
        noticed_ns = time.monotonic_ns()
        start = 0
        while start < len(events):
            length, _, _, head, mask, _, pid = _EVENT.unpack_from(events, start)
            information = events[start + head : start + length]
            start += length
            if mask & _OVERFLOW:
                for watch in tuple(self._watches.values()):
                    self._tell(watch, None, noticed_ns)
            elif pid != os.getpid():
                watched = self._watches.get(_named(information))
                if watched is not None and mask & watched.mask:
                    self._tell(watched, pid or None, noticed_ns)

    def _tell(self, watch: _Watch, pid: int | None, noticed_ns: int) -> None:
        watch.handler(Notice(path=watch.path, pid=pid, noticed_ns=noticed_ns, by=self.by))


def _named(information: bytes) -> _Key:
    """Return which inode an event is about."""
    kind, _, _, file_system, length, handle_type = _INFO.unpack_from(information)
    if kind != _FILE_ID:
        return (0, 0, b"")
    return (file_system, handle_type, information[_INFO.size : _INFO.size + length])


def _key(path: Path) -> _Key:
    handle, mount = _Handle(bytes=_MAX_HANDLE), ctypes.c_int()
    arguments = (_AT_CWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount))
    try:
        _checked(_libc.name_to_handle_at(*arguments, _AT_SYMLINK_FOLLOW | _AT_HANDLE_FID))
    except OSError:
        # Before Linux 6.5 only handles that can be opened are given, and only without the flag.
        handle.bytes = _MAX_HANDLE
        _checked(_libc.name_to_handle_at(*arguments, _AT_SYMLINK_FOLLOW))
    # Python joins the two halves of f_fsid into the number that the kernel reports.
    return (os.statvfs(path).f_fsid, handle.type, bytes(handle.handle[: handle.bytes]))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
