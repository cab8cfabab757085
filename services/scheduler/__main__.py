"""Start the scheduler: `gleaner scheduler`."""

from gleaner.runtime import run
from services.scheduler.service import serve
from services.scheduler.settings import SchedulerServiceSettings

if __name__ == "__main__":
    run("scheduler", SchedulerServiceSettings, serve)
