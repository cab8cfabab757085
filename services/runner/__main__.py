"""`python -m services.runner`."""

from gleaner import runtime
from services.runner.service import serve
from services.runner.settings import RunnerSettings

if __name__ == "__main__":
    runtime.run("runner", RunnerSettings, serve, node=lambda settings: settings.node.id)
