"""The sections of the configuration file, with defaults and the reason for each.

`docs/configuration.md` is generated from these models; a field without a description fails a test.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import zoneinfo
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from gleaner.bus.message import safe_level

_BUSY_WORDS = ("compute_process", "graphics_process", "device_open")
_BUSY_READING = re.compile(r"(utilization_percent|memory_used_bytes)\s*>=\s*(\d+)")


HANG_SECONDS = 4.5
"""From a check that was answered to the end of the next, unanswered one; 5 s without one make every
run leave, and the rest of a check takes its time too."""


def default_data_directory() -> Path:
    """Return `/var/lib/gleaner` for root, a folder below the user's state directory otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/gleaner")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "gleaner"


def _check_busy_when(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        if word not in _BUSY_WORDS and not _BUSY_READING.fullmatch(word):
            expected = ", ".join(_BUSY_WORDS)
            raise ValueError(
                f"{word!r} is not one of {expected}, "
                "`utilization_percent >= N` or `memory_used_bytes >= N`"
            )
    return words


def _check_deadline(seconds: float) -> float:
    if seconds > 3.5:
        raise ValueError(
            "a driver may take 3.5 s at most: after 5 s without a check every run leaves"
        )
    return seconds


def _strip(words: object) -> object:
    """`"a, b"`, as an environment variable has it, means a and b."""
    if isinstance(words, str):
        words = [word for word in words.split(",") if word.strip()]
    if isinstance(words, list | tuple):
        return tuple(word.strip() if isinstance(word, str) else word for word in words)
    return words


Words = Annotated[tuple[str, ...], BeforeValidator(_strip)]
Seconds = Annotated[float, Field(gt=0, le=366 * 86400)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,63}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:=/-]{1,63}$")]


class Section(BaseModel):
    """A section of the file: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BusSettings(Section):
    """Where the MQTT broker is."""

    url: str = Field(
        "mqtt://127.0.0.1:1883",
        description="`mqtt://host:port`, or `mqtts://` for TLS. "
        "`gleaner up` starts a broker there if none answers.",
    )
    user: str | None = Field(
        None, description="User name; the client id too, so that nobody can throw another off."
    )
    password: str | None = Field(None, description="Better in `password_file`.")
    password_file: Path | None = Field(None, description="A file whose first line is the password.")
    client_id: Literal["user", "own"] = Field(
        "user",
        description="`user`: the user name is the client id. `own`: each connection makes up one, "
        "where several share an account.",
    )
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="MQTT version; `auto` tries 5 first."
    )
    ca_file: Path | None = Field(
        None, description="Certificate authority to trust instead of the system's."
    )
    ca: str | None = Field(
        None, description="The same as text (PEM); an enrolment may bring it. A `ca_file` wins."
    )
    certificate_file: Path | None = Field(None, description="Our certificate, if the broker asks.")
    key_file: Path | None = Field(None, description="The key of our certificate.")
    enrolment: str | None = Field(
        None,
        description="What `gleaner enroll` printed for this host. It gives `url`, `user`, "
        "`password`, `client_id`, `ca`, `node.id` and `node.scheduler_keys` where they are not "
        "set, and is kept in the data directory (`account/enrolment`) from then on.",
    )
    enrolment_file: Path | None = Field(
        None,
        description="A file with such a text. Default: `account/enrolment` in the data directory, "
        "if it is there and neither `url` nor `user` is set.",
    )

    @field_validator("url")
    @classmethod
    def _is_mqtt_url(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            fits = parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("expected mqtt://host:port or mqtts://host:port")
        return url


class GpuSettings(Section):
    """What is looked at, and what makes a GPU busy."""

    source: Literal["auto", "nvml", "device-files", "simulated"] = Field(
        "auto",
        description="`auto`: NVML where it works, else the device files alone, until it does.",
    )
    check_seconds: Annotated[float, Field(ge=0.05, le=4)] = Field(
        1.0,
        description="The backstop: a full check this often, whatever events say. "
        "At most 4, because 5 s without a check make every run leave; where a driver is asked, "
        "at most 4.5 together with `deadline_seconds`.",
    )
    busy_when: Annotated[Words, AfterValidator(_check_busy_when)] = Field(
        _BUSY_WORDS,
        description="Any of these makes a GPU busy: `compute_process`, `graphics_process`, "
        "`device_open`, `utilization_percent >= N`, `memory_used_bytes >= N`.",
    )
    ignore_programs: Words = Field(
        (
            "nvidia-smi",
            "nvidia-persistenced",
            "dcgm-exporter",
            "nv-hostengine",
            "nv-fabricmanager",
            "nvidia-powerd",
            "nvtop",
        ),
        description="Programs that never make a GPU busy, since they only watch or keep it: "
        "by name, as the kernel shortens it.",
    )
    ignore_users: Words = Field((), description="Users whose processes never make a GPU busy.")
    held_after_seconds: Seconds = Field(
        1800, description="A process that has used its GPU for nothing this long holds it (`held`)."
    )
    telemetry_seconds: Seconds = Field(10, description="How often readings are published.")
    sample_seconds: Seconds = Field(10, description="How often a sample is kept for history.")
    deadline_seconds: Annotated[float, Field(gt=0), AfterValidator(_check_deadline)] = Field(
        3,
        description="How long one sweep over the driver may take before it counts as hung. "
        "At most 3.5, because 5 s without a check make every run leave.",
    )
    accounting: bool = Field(
        False,
        description="Switch on the driver's own accounting (needs root; it stays on until the "
        "driver is unloaded), so that processes which end between two samples are recorded too.",
    )
    command_lines: Literal["program", "full"] = Field(
        "program",
        description="What is shown of a process: program and script only, or all arguments "
        "(which may hold secrets).",
    )
    device_directory: Path = Field(
        Path("/dev"), description="Where `nvidia0`… lie; elsewhere in some containers."
    )

    @model_validator(mode="after")
    def _notices_a_driver_that_hangs(self) -> Self:
        """Refuse what would leave a hung driver's last answer standing for more than 5 s."""
        left = HANG_SECONDS - self.check_seconds
        if self.source in ("auto", "nvml") and self.deadline_seconds > left:
            raise ValueError(
                f"check_seconds {self.check_seconds:g} and deadline_seconds "
                f"{self.deadline_seconds:g} may be {HANG_SECONDS:g} s together, because a driver "
                "that hangs must be noticed within 5 s: set deadline_seconds to "
                f"{left:g} or less, or check more often"
            )
        return self


class PeopleSettings(Section):
    """Whether and how people at the machine count."""

    enabled: bool = Field(True, description="False: nobody is watched, and nobody stops a run.")
    whitelist: Words = Field((), description="Users who are shown, but never a reason to leave.")
    idle_seconds: Annotated[float, Field(ge=0)] = Field(
        300, description="How long after their last input somebody counts as gone."
    )
    device_directory: Path = Field(
        Path("/dev"), description="Where `pts/N` and `ttyN` lie; elsewhere in some containers."
    )
    seats: bool = Field(True, description="Ask logind about graphical seats, where D-Bus is there.")


class SimulatedSettings(Section):
    """The simulated back end: for a first look, for tests of scale, for demonstrations."""

    nodes: Annotated[int, Field(ge=1, le=10_000)] = Field(1, description="How many nodes.")
    gpus: Annotated[int, Field(ge=0, le=64)] = Field(4, description="GPUs on each.")
    model: str = Field("Simulated H100", description="What their GPUs are called.")
    script: Path | None = Field(
        None, description="A TOML file with people and processes; a lively day if missing."
    )
    speed: Annotated[float, Field(gt=0, le=1000)] = Field(
        1.0, description="How much faster than the clock the script is played."
    )
    capture: Path | None = Field(
        None,
        description="A file of `gleaner capture`: its readings are replayed, one each check, "
        "instead of a script.",
    )


class NodeSettings(Section):
    """This machine."""

    id: Name = Field(
        default_factory=lambda: safe_level(socket.gethostname()),
        description="Its name on the bus (`[a-z0-9_-]`); the host's name by default.",
    )
    labels: Annotated[tuple[Label, ...], BeforeValidator(_strip)] = Field(
        (), description="Words to find it by on the page: `nvlink`, `lab-a`."
    )
    data_directory: Path = Field(
        default_factory=default_data_directory,
        description="Where everything that must survive a restart lies. "
        "`/var/lib/gleaner` for root, below the user's state folder otherwise.",
    )
    scheduler_keys: Words = Field(
        (),
        description="Public keys (`<id>:<base64>`) of the schedulers this node obeys; "
        "`gleaner up` fills in its own. Without any, nothing is launched.",
    )
    pause_file: Path | None = Field(
        None,
        description="While this file exists nothing runs here; any user of the node may touch it. "
        "Default: `pause/pause` in the data directory, in a folder made for that; a folder that "
        "you choose is yours to make, and to open to whom you trust.",
    )
    notices: Literal["auto", "fanotify", "inotify", "check"] = Field(
        "auto",
        description="How opens and keys are noticed: `auto` takes the best the kernel allows; "
        "`check` hears nothing and relies on the check each `gpu.check_seconds`.",
    )
    gpu: GpuSettings = Field(GpuSettings(), description="")
    people: PeopleSettings = Field(PeopleSettings(), description="")
    simulated: SimulatedSettings = Field(SimulatedSettings(), description="")


class WorkloadSettings(Section):
    """One entry of the node's own catalogue; nothing else ever runs here."""

    name: Name = Field(description="Its name; unique on the node.")
    kind: Literal["filler"] = Field(
        "filler", description="`filler`: runs for ever, wherever it may."
    )
    command: str = Field(
        min_length=1, description="Split as a shell would, but no shell; relative to `directory`."
    )
    directory: Path = Field(Path("/"), description="Where it runs.")
    gpus: Literal["each", "all"] | tuple[Annotated[int, Field(ge=0)], ...] = Field(
        "each",
        description="`each`: one run per GPU; `all`: one run over all; "
        "`[0, 2]`: one run over these, when all of them are idle.",
    )
    log: Path | None = Field(
        None, description="Appended, output and errors; without it they go to the runner's output."
    )
    log_max_bytes: Annotated[int, Field(ge=4096)] = Field(
        100_000_000, description="A longer log is rotated to `.1`, `.2`…"
    )
    log_keep: Annotated[int, Field(ge=0, le=100)] = Field(3, description="Rotated logs kept.")
    user: str | None = Field(
        None,
        description="Who runs it; never root unless it says so. "
        "Default: `nobody` when Gleaner is root, else who runs Gleaner.",
    )
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        5, description="Between TERM and KILL."
    )
    environment: dict[str, str] = Field({}, description="Added to the full environment.")
    nice: Annotated[int, Field(ge=-20, le=19)] = Field(19, description="CPU priority; 19 yields.")
    io_class: Literal["idle", "best-effort"] = Field("idle", description="Disk priority.")
    cpu_weight: Annotated[int, Field(ge=1, le=10_000)] = Field(
        10, description="cgroup CPU weight; other people's is 100."
    )
    cpu_max_percent: Annotated[float, Field(gt=0)] | None = Field(
        None, description="cgroup CPU limit; 100 is one core."
    )
    memory_max_bytes: Annotated[int, Field(gt=0)] | None = Field(
        None, description="cgroup memory limit."
    )
    processes_max: Annotated[int, Field(gt=0)] | None = Field(
        None, description="cgroup limit of processes and threads."
    )

    @field_validator("command")
    @classmethod
    def _splits(cls, command: str) -> str:
        if not shlex.split(command):
            raise ValueError("no program in it")
        return command

    @field_validator("gpus")
    @classmethod
    def _names_gpus_once(cls, gpus: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(gpus, tuple) and (not gpus or len(set(gpus)) != len(gpus)):
            raise ValueError("name at least one GPU, and each only once")
        return gpus


class SchedulerSettings(Section):
    """When idle GPUs are put to work."""

    gpu_idle_seconds: Annotated[float, Field(ge=0)] = Field(
        60, description="How long a GPU must be idle before something starts there."
    )
    backoff_seconds: Seconds = Field(
        2,
        description="Wait before a workload that ended by itself starts again; doubles each time.",
    )
    backoff_max_seconds: Seconds = Field(600, description="The longest such wait.")
    healthy_seconds: Seconds = Field(
        120, description="A run that lasted this long forgets earlier crashes."
    )
    failures_max: Annotated[int, Field(ge=1)] = Field(
        5, description="Failures in a row after which a workload is held until somebody resumes it."
    )
    key_file: Path | None = Field(
        None, description="The private key. Default: `keys/scheduler.key` in the data directory."
    )


class DatabaseSettings(Section):
    """Where history is kept."""

    url: str | None = Field(
        None,
        description="`sqlite:///path` (four slashes for an absolute one) or "
        "`postgresql://user:password@host/name`. "
        "Default: `recorder/gleaner.sqlite` in the data directory.",
    )
    sample_days: Annotated[float, Field(gt=0, le=3660)] = Field(
        2, description="How long each single sample of a GPU is kept."
    )
    five_minute_days: Annotated[float, Field(gt=0, le=36600)] = Field(
        14, description="How long sums of five minutes are kept."
    )
    hour_days: Annotated[float, Field(gt=0, le=36600)] = Field(
        731, description="How long sums of an hour are kept; those of a day, and sessions, stay."
    )
    max_bytes: Annotated[int, Field(ge=10_000_000)] | None = Field(
        None,
        description="When the database is larger, the oldest samples and events go before their "
        "time.",
    )
    event_days: Annotated[float, Field(gt=0, le=36600)] = Field(
        731, description="How long events and runs are kept."
    )

    @field_validator("url")
    @classmethod
    def _is_database_url(cls, url: str | None) -> str | None:
        known = ("sqlite:///", "postgresql://")
        if url is not None and not (url.startswith(known) and url not in known):
            raise ValueError("expected sqlite:///path or postgresql://user@host/name")
        return url


class AccountingSettings(Section):
    """How use is counted and told."""

    time_zone: str | None = Field(
        None,
        description="Where days, months and hours of the day begin, like `Europe/Berlin`. "
        "Default: the zone of the machine that the recorder runs on.",
    )
    groups_file: Path | None = Field(
        None,
        description="Lines of `user: group`. Default: each user's primary group on the recorder's "
        "machine.",
    )
    aliases: dict[str, str] = Field(
        {}, description="User to the name that use is counted under, where somebody has several."
    )
    quota_gpu_hours: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {},
        description="User, or `*` for everybody else, to GPU-hours a month; shown, not enforced.",
    )
    csv_directory: Path | None = Field(
        None, description="Where a daily `YYYYMMDD_gpu_stats.csv` is written. Default: none is."
    )
    csv_minutes: Annotated[int, Field(ge=1, le=1440)] = Field(
        5, description="Between two samples in that file."
    )

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, time_zone: str | None) -> str | None:
        if time_zone is not None and time_zone not in zoneinfo.available_timezones():
            raise ValueError("expected the name of a time zone, like Europe/Berlin")
        return time_zone


class WebSettings(Section):
    """The page."""

    listen: str = Field("127.0.0.1:8080", description="Address and port; `[::1]:8080` for IPv6.")
    allowed_hosts: Words = Field(
        (),
        description="Names under which the page may be reached besides its own address; "
        "others are refused.",
    )
    control_token_file: Path | None = Field(
        None,
        description="A file whose first line lets people pause and drain by the page. On the "
        "machine itself root and the user who runs Gleaner need none; without it nobody else may.",
    )
    display_names: dict[str, str] = Field({}, description="Node id to the name shown for it.")
    model_names: dict[str, str] = Field(
        {}, description="Model as the driver says it to the shorter name shown for it."
    )

    @field_validator("listen")
    @classmethod
    def _is_address(cls, listen: str) -> str:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError("expected address:port, like 127.0.0.1:8080")
        return listen

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets) and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class LogSettings(Section):
    """What is said on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="How much.")


class AllSettings(BaseModel):
    """The whole file, for `gleaner doctor`, `gleaner up` and the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bus: BusSettings = BusSettings()
    node: NodeSettings = Field(default_factory=NodeSettings)
    workload: tuple[WorkloadSettings, ...] = ()
    scheduler: SchedulerSettings = SchedulerSettings()
    database: DatabaseSettings = DatabaseSettings()
    accounting: AccountingSettings = AccountingSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _workload_names_are_unique(self) -> Self:
        check_unique(self.workload)
        return self


def check_unique(workloads: tuple[WorkloadSettings, ...]) -> None:
    """Raise ValueError for two workloads of one name."""
    names = [workload.name for workload in workloads]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two workloads are called {', '.join(twice)}")
