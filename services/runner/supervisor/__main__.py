"""Started as `python -I -S …/supervisor/__main__.py SPEC`: isolated, and without site packages."""

import sys

if __name__ == "__main__":
    # Behind the standard library, so that nothing beside us can stand for a part of it.
    sys.path.append(__file__.removesuffix("/services/runner/supervisor/__main__.py"))
    from services.runner.supervisor.hold import hold

    hold(sys.argv[1])
