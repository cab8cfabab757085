"""`gleaner node`."""

from gleaner.runtime import run
from services.node.service import serve, title
from services.node.settings import Settings

if __name__ == "__main__":
    run("node", Settings, serve, node=title)
