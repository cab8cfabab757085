"""Start the recorder."""

from gleaner.runtime import run
from services.recorder.service import serve
from services.recorder.settings import RecorderSettings

if __name__ == "__main__":
    run("recorder", RecorderSettings, serve)
