"""How Gleaner is configured: one TOML file, overridden by `GLEANER_<SECTION>__<KEY>`.

The sections stand here, because the file is shared; each service's own `settings.py` names those
it reads. All mistakes are reported together, each by its key; a program then ends with status 2.
"""

from gleaner.settings.broker import BusSettings
from gleaner.settings.enrolment import Part
from gleaner.settings.fields import Section
from gleaner.settings.gpu import GpuSettings
from gleaner.settings.history import AccountingSettings, DatabaseSettings
from gleaner.settings.load import ServiceSettings, SettingsError, find_file, load
from gleaner.settings.node import NodeSettings, PeopleSettings, SimulatedSettings
from gleaner.settings.sections import LogSettings, SchedulerSettings
from gleaner.settings.web import WebSettings
from gleaner.settings.workload import WorkloadSettings

__all__ = [
    "AccountingSettings",
    "BusSettings",
    "DatabaseSettings",
    "GpuSettings",
    "LogSettings",
    "NodeSettings",
    "Part",
    "PeopleSettings",
    "SchedulerSettings",
    "Section",
    "ServiceSettings",
    "SettingsError",
    "SimulatedSettings",
    "WebSettings",
    "WorkloadSettings",
    "find_file",
    "load",
]
