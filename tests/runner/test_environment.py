"""What a workload finds in its environment."""

from __future__ import annotations

from gleaner.bus.messages import GpuInventory
from services.runner.environment import environment
from services.runner.launcher import Account

AGENT = {
    "PATH": "/usr/bin",
    "HOME": "/root",
    "LD_LIBRARY_PATH": "/opt/cuda",
    "SUDO_USER": "user1",
    "XDG_RUNTIME_DIR": "/run/user/0",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "GLEANER_BUS__PASSWORD": "secret",
}
NOBODY = Account(
    name="nobody", uid=65534, gid=65534, groups=(65534,), home="/nonexistent", shell="/bin/false"
)


def made(account: Account | None = None, *gpus: GpuInventory, **entrys: str) -> dict[str, str]:
    return environment(AGENT, entrys, account=account, run="r1", token="t", gpus=gpus)


def test_the_whole_environment_stays_less_what_is_private_to_the_agent() -> None:
    found = made()

    assert {name: found.get(name) for name in AGENT} == {
        **AGENT,
        "NOTIFY_SOCKET": None,
        "GLEANER_BUS__PASSWORD": None,
    }


def test_gpus_are_named_by_uuid_in_the_order_of_the_bus() -> None:
    found = made(None, GpuInventory(gpu="GPU-b", index=1), GpuInventory(gpu="MIG-c", index=2))

    assert (found["CUDA_VISIBLE_DEVICES"], found["CUDA_DEVICE_ORDER"], found["GLEANER_GPUS"]) == (
        "GPU-b,MIG-c",
        "PCI_BUS_ID",
        "GPU-b,MIG-c",
    )


def test_a_gpu_without_a_uuid_is_named_by_its_index() -> None:
    gpus = (GpuInventory(gpu="minor-3", index=1), GpuInventory(gpu="0000:3b:00.0", index=2))

    assert made(None, *gpus)["CUDA_VISIBLE_DEVICES"] == "1,2"


def test_another_user_has_his_own_home_and_nothing_of_the_agents_user() -> None:
    found = made(NOBODY)

    assert [found.get(name) for name in ("HOME", "USER", "LOGNAME", "SHELL", "PATH")] == [
        "/nonexistent", "nobody", "nobody", "/bin/false", "/usr/bin",
    ]  # fmt: skip
    assert not {"SUDO_USER", "XDG_RUNTIME_DIR"} & found.keys()


def test_the_entry_adds_its_own_but_never_chooses_other_gpus() -> None:
    found = made(None, GpuInventory(gpu="GPU-b", index=1), A="1", CUDA_VISIBLE_DEVICES="0,1,2")

    assert (found["A"], found["CUDA_VISIBLE_DEVICES"]) == ("1", "GPU-b")
    assert (found["GLEANER_RUN"], found["GLEANER_RUN_TOKEN"]) == ("r1", "t")
