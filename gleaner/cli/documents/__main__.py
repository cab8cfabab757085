"""Write all generated documents (`make docs`); a test keeps the committed ones current."""

from __future__ import annotations

import json
from pathlib import Path

from gleaner.bus.access import access_rules, node_accounts, service_accounts
from gleaner.cli.documents.bus import bus_document
from gleaner.cli.documents.command_line import command_line_document
from gleaner.cli.documents.configuration import configuration_document
from gleaner.cli.documents.schemas import all_models, asyncapi, schema_of
from gleaner.cli.machine.mosquitto import COMMON

ROOT = Path(__file__).parents[3]


def documents() -> dict[str, str]:
    """Return every generated file: path below the repository to text."""
    found = {
        "docs/bus.md": bus_document(),
        "docs/asyncapi.json": _json(asyncapi()),
        "docs/configuration.md": configuration_document(),
        "docs/command-line.md": command_line_document(),
        "mosquitto/acl.example": acl_example(),
        "mosquitto/mosquitto.conf": deployed_broker(),
    }
    for model in all_models():
        found[f"docs/schemas/{model.__name__}.json"] = _json(schema_of(model))
    return found


def main() -> None:
    """Write them all; remove schemas of messages that are gone."""
    wanted = documents()
    for path in ROOT.glob("docs/schemas/*.json"):
        if str(path.relative_to(ROOT)) not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(wanted)} documents")


def acl_example() -> str:
    """Return mosquitto/acl.example: a fleet of two nodes."""
    head = (
        "# Example of an acl_file for a broker of your own, with the nodes gpu1 and gpu2.\n"
        "# Use it with `use_username_as_clientid true` (or identities from certificates);\n"
        "# a node in one process uses the account of its name, collector and runner apart\n"
        "# use the other two. `gleaner up` writes its own.\n#\n"
    )
    accounts = [*node_accounts("gpu1"), *node_accounts("gpu2"), *service_accounts()]
    return head + access_rules(accounts)


def deployed_broker() -> str:
    """Return mosquitto/mosquitto.conf: the broker of the containers, started by start.sh."""
    return (
        "# The broker of the containers. Its paths are those of its volume, where start.sh goes.\n"
        "# Made from gleaner/cli/machine/mosquitto.py (`make docs`), as that of `gleaner up` is.\n"
        f"{COMMON}\n"
        "# Listeners, accounts and rules: `gleaner prepare` and `gleaner enroll` write them.\n"
        "include_dir .\n"
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
