"""A reverse proxy that serves a site below a prefix, as nginx does with a `location /gpus/`."""

from __future__ import annotations

import socket
import threading
from typing import Self

HEAD_END = b"\r\n\r\n"


class Prefixed:
    """Passes on what comes for `/gpus/`, without the prefix; everything else is 404."""

    def __init__(self, port: int, prefix: str = "/gpus") -> None:
        self._to = port
        self._prefix = prefix.encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{prefix}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake who waits in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._to)) as server:
            data = b""
            while HEAD_END not in data:
                if not (more := client.recv(65536)):
                    return
                data += more
            head, rest = data.split(HEAD_END, 1)
            line, *fields = head.split(b"\r\n")
            method, path, version = line.split(b" ")
            if not path.startswith(self._prefix + b"/"):
                client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            # One request for each connection, so that no second head has to be looked for.
            kept = [one for one in fields if not one.lower().startswith(b"connection:")]
            line = b" ".join((method, path.removeprefix(self._prefix), version))
            server.sendall(b"\r\n".join((line, *kept, b"Connection: close")) + HEAD_END + rest)
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            _pass_on(client, server)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # Either side may go first.
