"""Write the payloads that are missing; one that is there is never changed."""

from __future__ import annotations

import json
from pathlib import Path

from gleaner.bus.codec import encode
from tests.bus.golden import GOLDEN

for value in GOLDEN:
    file = Path(__file__).parent / f"{type(value).__name__}.json"
    if not file.exists():
        body = {"topic": value.topic, "payload": json.loads(encode(value))}
        file.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
        print(f"wrote {file.name}")
