"""Whose connection it is, where the other end is on this machine; reads /proc/net/tcp."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

Address = tuple[str, int]

_TABLES = (("/proc/net/tcp", False), ("/proc/net/tcp6", False), ("/proc/net/tcp6", True))
"""A program may speak IPv4 by a socket of IPv6; its addresses are then mapped."""
_ESTABLISHED = "01"
_NO_INODE = "0"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The other end of a connection."""

    address: str | None
    user: int | None = None
    """User id of its process; None where that is not known, as of another machine."""


def user_of(theirs: Address, ours: Address) -> int | None:
    """Return the user id of the process that opened a connection to us over loopback.

    For a thread: the kernel looks through all its connections for this, which takes 10 ms and more.
    """
    for table, mapped in _TABLES:
        ends = [_hexadecimal(theirs, mapped), _hexadecimal(ours, mapped)]
        try:
            with open(table) as lines:
                fields = next((row for row in map(str.split, lines) if row[1:3] == ends), None)
        except OSError:
            continue
        # One that was closed meanwhile belongs to nobody, and the kernel calls that user 0.
        if fields and fields[3] == _ESTABLISHED and fields[9] != _NO_INODE:
            return int(fields[7])
    return None


def _hexadecimal(end: Address, mapped: bool) -> str:
    """Return an address as the kernel writes it: words of 32 bits in the machine's byte order."""
    host, port = end
    address = ipaddress.ip_address(host.partition("%")[0])
    if mapped and isinstance(address, ipaddress.IPv4Address):
        address = ipaddress.IPv6Address(f"::ffff:{address}")
    words = struct.unpack(f"={len(address.packed) // 4}I", address.packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
