"""A network between a service and its broker that can be cut: nothing arrives or is closed."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Self


class Network:
    """Carries TCP connections to a port while it is whole; while it is cut, bytes just vanish."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._is_cut = False
        self._is_over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._carry, name="network")
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Let nothing through; nobody is told."""
        self._is_cut = True

    def mend(self) -> None:
        """Let everything through again; what was sent meanwhile is lost."""
        self._is_cut = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        for one in (self._listener, *self._pairs):
            one.close()

    def _carry(self) -> None:
        while not self._is_over:
            listening = [] if self._is_cut else [self._listener]
            for one in select.select([*listening, *self._pairs], [], [], 0.05)[0]:
                if one is self._listener:
                    theirs, ours = (
                        one.accept()[0],
                        socket.create_connection(("127.0.0.1", self._to)),
                    )
                    self._pairs |= {theirs: ours, ours: theirs}
                elif one in self._pairs:
                    self._pass_on(one)

    def _pass_on(self, one: socket.socket) -> None:
        other = self._pairs[one]
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(65536)
            if data and not self._is_cut:
                other.sendall(data)
        if not data:
            del self._pairs[one]
            one.close()
            if self._pairs.pop(other, None):
                other.close()
