"""The broker of `gleaner up`, with accounts and access rules, and without the rest of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from gleaner.bus.connection import Connection
from gleaner.cli.machine import broker, plan
from gleaner.cli.machine.broker import Address, Identity
from gleaner.cli.machine.plan import Node


class Broker:
    """A mosquitto with the files that `gleaner up` writes."""

    def __init__(self, directory: Path, nodes: Iterable[str]) -> None:
        self.directory = directory
        known = [Node(id=node, config=None, variables={}) for node in nodes]
        names = [node.id for node in known] + list(plan.SERVICES)
        self.identities = broker.make_identities(directory, names)
        self.operator = broker.make_operator(directory)
        self.public = Address("127.0.0.1", broker.free_port())
        self.services = Address("127.0.0.1", broker.free_port())
        broker.write_files(
            directory,
            public=self.public,
            services=self.services,
            operator=self.operator,
            accounts=plan.accounts(known, self.identities),
        )
        found = broker.find_mosquitto()
        assert found is not None
        program = broker.program(found, directory)
        user, group = program.user or (None, None)
        self.process = subprocess.Popen(
            program.command,
            cwd=program.directory,
            env=dict(program.environment),
            user=user,
            group=group,
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 10
        for address in (self.public, self.services):
            while not broker.is_answered(address):
                assert time.monotonic() < deadline, "the broker did not answer within 10 s"
                time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(10)

    def connection(self, name: str | None) -> Connection:
        """How somebody connects: an account's name, `operator`, or nobody."""
        if name is None:
            return Connection(url=self.public.url)
        if name == "operator":
            return self._to(self.public, self.operator, own=True)
        return self._to(self.services, self.identities[name], own=False)

    @staticmethod
    def _to(address: Address, identity: Identity, *, own: bool) -> Connection:
        return Connection(
            url=address.url,
            user=identity.user,
            password=identity.password,
            client_id="own" if own else "user",
        )
