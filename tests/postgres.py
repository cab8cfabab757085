"""A real PostgreSQL in a folder of its own: an ordinary user's, on a private socket, no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import urlencode

NOTHING_IS_WAITED_FOR = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""Half the time of the tests; what a power cut leaves is no question here."""
OTHERS = ("listen_addresses=", "autovacuum=off", "shared_buffers=16MB", "max_connections=40")


def programs() -> Path:
    """Return the folder of the server's programs; a machine without them fails the tests."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = str(found[-1]) if found else shutil.which("initdb")
    assert path, "PostgreSQL is not installed: run `make setup-test`"
    return Path(path).parent


class Postgres:
    """A server that can be stopped and started again; each database lives until the end."""

    def __init__(self) -> None:
        self._programs = programs()
        self._folder = Path(tempfile.mkdtemp(prefix="gleaner-postgres-"))
        # The server refuses to run as root.
        self.user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._as = self.user if os.geteuid() == 0 else None
        self._made: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """Return how to reach a database, as `database.url` has it."""
        return f"postgresql://{self.user}@/{database}?{urlencode({'host': self._folder})}"

    def database(self, name: str, *, like: str | None = None) -> str:
        """Return the URL of a new database, empty or like another; the same for the same name."""
        if name not in self._made:
            template = self._made[like] if like else "template0"
            self._made[name] = f"d{len(self._made)}"
            self.sql(f"CREATE DATABASE {self._made[name]} TEMPLATE {template}")
        return self.url(self._made[name])

    def name(self, name: str) -> str:
        """Return what a database that was made by `database` is called by the server."""
        return self._made[name]

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Carry out a statement as psql does; return what it prints."""
        whom = ("-h", self._folder, "-U", self.user, "-d", database)
        command = (self._programs / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *whom)
        return subprocess.run(
            [*command, "-c", statement], check=True, capture_output=True, text=True
        ).stdout.strip()

    def start(self) -> None:
        """Start and wait until it answers."""
        settings = [f"unix_socket_directories={self._folder}", *NOTHING_IS_WAITED_FOR, *OTHERS]
        options = [word for setting in settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *options],
                stderr=log,
                user=self._as,
            )
        ready = [self._programs / "pg_isready", "-q", "-t", "10", "-h", self._folder]
        while subprocess.run(ready, check=False).returncode:
            said = (self._folder / "log").read_text()
            assert self._process.poll() is None, f"PostgreSQL does not start: {said}"

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it and its connections by its pid: as a restart does, or with QUIT like a crash."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> Self:
        if self._as:
            shutil.chown(self._folder, self._as)
        command = [self._programs / "initdb", "-D", self._folder / "data", "-U", self.user]
        subprocess.run(
            [*command, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self._as,
            cwd="/",
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)
