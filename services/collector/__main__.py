"""Start the collector on its own: `python -m services.collector`."""

from gleaner.runtime import run
from services.collector.service import serve
from services.collector.settings import CollectorSettings

run("collector", CollectorSettings, serve, node=lambda settings: settings.node.id)
