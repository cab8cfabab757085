"""Start the web service: `python -m services.web`."""

from gleaner.runtime import run
from services.web.service import serve
from services.web.settings import Settings

if __name__ == "__main__":
    run("web", Settings, serve)
