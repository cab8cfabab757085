"""Prepare what `gleaner up` runs: files, keys, accounts and the programs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gleaner.bus.connection import Connection
from gleaner.bus.signature import load_or_make_key
from gleaner.cli.connect import enrolled_node
from gleaner.cli.machine import broker, demo, plan
from gleaner.cli.machine.broker import Address
from gleaner.cli.machine.child import Program, tell
from gleaner.cli.machine.endpoint import write_endpoint
from gleaner.cli.machine.plan import Node
from gleaner.cli.settings import Settings
from gleaner.runtime import Fatal, connection, write_atomically

NODE_VARIABLES = ("GLEANER_NODE__", "GLEANER_WORKLOAD", "GLEANER_CONFIG")


@dataclass(frozen=True, kw_only=True)
class Bus:
    """The broker that everybody uses."""

    variables: Mapping[str, Mapping[str, str]]
    """What each process is told of it, by the process's name."""
    reader: Connection
    """How we look ourselves."""
    program: Program | None = None
    """Our own broker; None where somebody else's is used."""
    listeners: tuple[Address, ...] = ()
    """Where our own broker answers when it is ready."""


@dataclass(frozen=True, kw_only=True)
class System:
    """Everything that is to run."""

    bus: Bus
    nodes: tuple[Program, ...]
    services: tuple[Program, ...]
    page: Address
    node_ids: tuple[str, ...]


def prepare(settings: Settings, config: Path | None) -> System:
    """Write what has to be there and return what has to run."""
    if enrolled_node(settings):
        raise Fatal(
            f"this host is enrolled as the node {enrolled_node(settings)} of a server elsewhere: "
            "`gleaner node` is all that runs here"
        )
    directory = settings.node.data_directory
    nodes = [_own_node(settings, config)]
    scheduler_variables: dict[str, str] = {}
    if settings.node.gpu.source == "auto" and not demo.has_nvidia(
        settings.node.gpu.device_directory
    ):
        tell(
            "this machine has no NVIDIA GPU: a simulated node is added, called "
            f"{demo.NODE!r}; nothing there is real, and the next start does without it once "
            "there is a driver"
        )
        nodes.append(_demo_node(directory))
        if "gpu_idle_seconds" not in settings.scheduler.model_fields_set:
            scheduler_variables["GLEANER_SCHEDULER__GPU_IDLE_SECONDS"] = str(demo.GPU_IDLE_SECONDS)
    key_file = settings.scheduler.key_file or directory / "keys" / "scheduler.key"
    keys = plan.scheduler_keys(settings, load_or_make_key(key_file).public)
    bus = _set_up_bus(settings, nodes)
    page = _page(settings)
    return System(
        bus=bus,
        nodes=tuple(
            plan.service(
                "node" if node.config == config else node.id,
                module="node",
                config=node.config,
                variables={**bus.variables[node.id], **keys, **node.variables},
                grace_seconds=plan.node_grace_seconds(settings),
                without=NODE_VARIABLES if node.config != config else (),
            )
            for node in nodes
        ),
        services=(
            plan.service(
                "scheduler",
                module="scheduler",
                config=config,
                variables={**bus.variables["scheduler"], **scheduler_variables},
            ),
            plan.service(
                "recorder", module="recorder", config=config, variables=bus.variables["recorder"]
            ),
            plan.service(
                "web",
                module="web",
                config=config,
                variables={
                    **bus.variables["web"],
                    "GLEANER_WEB__LISTEN": str(page),
                },
            ),
        ),
        page=page,
        node_ids=tuple(node.id for node in nodes if node.count == 1),
    )


def _own_node(settings: Settings, config: Path | None) -> Node:
    is_simulated = settings.node.gpu.source == "simulated"
    count = settings.node.simulated.nodes if is_simulated else 1
    return Node(id=settings.node.id, config=config, variables={}, count=count)


def _demo_node(directory: Path) -> Node:
    folder = directory / demo.NODE
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "gleaner.toml"
    script = folder / "script.toml"
    write_atomically(script, demo.SCRIPT)
    write_atomically(file, demo.configuration(folder, script))
    return Node(id=demo.NODE, config=file, variables={})


def _set_up_bus(settings: Settings, nodes: list[Node]) -> Bus:
    wanted = Connection(url=settings.bus.url)
    host, port = wanted.address
    choice = plan.choose_broker(settings.bus, is_answered=broker.is_answered(Address(host, port)))
    names = [node.id for node in nodes] + list(plan.SERVICES)
    if not choice.own:
        tell(f"using the broker at {settings.bus.url}")
        reader = replace(connection(settings.bus), client_id="own")
        return Bus(variables=dict.fromkeys(names, plan.their_bus()), reader=reader)
    public = Address(host, port)
    if choice.moved:
        public = Address("127.0.0.1", broker.free_port())
        tell(f"{choice.moved}; our own broker is at {public.url}")
    return _own_bus(settings, nodes, public)


def _own_bus(settings: Settings, nodes: list[Node], public: Address) -> Bus:
    mosquitto = broker.find_mosquitto()
    if mosquitto is None:
        raise Fatal(
            "mosquitto is not installed: `apt install mosquitto`, or configure bus.url, bus.user "
            "and bus.password_file of a broker that you have"
        )
    directory = settings.node.data_directory / "broker"
    directory.mkdir(parents=True, exist_ok=True)
    names = [node.id for node in nodes] + list(plan.SERVICES)
    identities = broker.make_identities(directory, names)
    operator = broker.make_operator(directory)
    services = Address("127.0.0.1", broker.kept_port(directory))
    broker.write_files(
        directory,
        public=public,
        services=services,
        operator=operator,
        accounts=plan.accounts(nodes, identities),
    )
    write_endpoint(settings.node.data_directory, public.url)
    return Bus(
        variables={name: plan.own_bus(services, identities[name]) for name in names},
        reader=Connection(
            url=public.url, user=operator.user, password=operator.password, client_id="own"
        ),
        program=broker.program(mosquitto, directory),
        listeners=(public, services),
    )


def _page(settings: Settings) -> Address:
    host, port = settings.web.address
    if broker.can_listen(host, port):
        return Address(host, port)
    free = Address(host, broker.free_port(host))
    tell(f"web.listen: port {port} of {host} is taken by another program; using {free.port}")
    return free
