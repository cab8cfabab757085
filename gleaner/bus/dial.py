"""Connect to somebody else: on one machine, TCP may connect a socket to itself.

Who asks again and again for a port out of which the kernel also takes the ports of those who ask
gets one day the very port it asks for: two SYNs that cross make a connection, with nobody there.
It would be taken for a broker, and keep the real one from listening.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

_AT_ONCE = struct.pack("ii", 1, 0)


def dial(address: tuple[str, int], seconds: float) -> socket.socket:
    """Return a connection to an address; OSError if nobody listens there."""
    connection = socket.create_connection(address, seconds)
    try:
        refuse_itself(connection)
    except OSError:
        connection.close()
        raise
    return connection


def refuse_itself(connection: socket.socket) -> None:
    """Raise ConnectionRefusedError for a connection to itself; its port is free once it closes."""
    try:
        peer = connection.getpeername()
    except OSError:
        # It has hung up already; whoever reads next learns that.
        return
    if connection.getsockname() == peer:
        # Not closed in order: the port would stay taken for a minute.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
