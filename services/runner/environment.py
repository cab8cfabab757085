"""The environment of a workload: the agent's own, less what is private to it, plus the GPUs."""

from __future__ import annotations

from collections.abc import Mapping

from gleaner.bus.messages import GpuInventory
from services.runner.launcher import Account

_OF_THE_AGENT = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
     "CREDENTIALS_DIRECTORY"}
)  # fmt: skip
"""A workload could speak to the service manager in our name."""
_OF_THE_USER = ("SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY", "MAIL", "SUDO_", "XDG_")
"""Another user's, and no use to a workload that runs as somebody else."""


def environment(
    agents: Mapping[str, str],
    entrys: Mapping[str, str],
    *,
    account: Account | None,
    run: str,
    token: str,
    gpus: tuple[GpuInventory, ...],
) -> dict[str, str]:
    """Return the whole environment of a run; `account` is None if the user does not change."""
    found = {
        name: value
        for name, value in agents.items()
        if not name.startswith("GLEANER_") and name not in _OF_THE_AGENT
    }
    if account is not None:
        found = {name: text for name, text in found.items() if not name.startswith(_OF_THE_USER)}
        found |= {
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell,
        }
    return {
        **found,
        **entrys,
        # CUDA's own order is by speed; everybody else's is by bus.
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(_cuda_name(gpu) for gpu in gpus),
        "GLEANER_RUN": run,
        "GLEANER_RUN_TOKEN": token,
        "GLEANER_GPUS": ",".join(gpu.gpu for gpu in gpus),
    }


def _cuda_name(gpu: GpuInventory) -> str:
    """CUDA knows UUIDs; where the driver could not be asked for one, the index has to do."""
    return gpu.gpu if gpu.gpu.startswith(("GPU-", "MIG-")) else str(gpu.index)
