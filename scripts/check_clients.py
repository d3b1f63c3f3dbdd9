"""Which clients work unchanged, and with what? Writes the table of docs/http.md.

make clients && python -m scripts.check_clients
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from scripts import results
from tests.clients.driving import clients, driven, talking

SECTION = "clients"
FEATURES = {
    "chat": "chat",
    "stream": "stream",
    "tools": "tools",
    "form": "form",
    "responses": "Responses",
    "embeddings": "embeddings",
}


def main() -> None:
    missing = [client.name for client in clients() if not client.command]
    if missing:
        raise SystemExit(f"not here: {', '.join(missing)}; `make clients` gets them")
    with tempfile.TemporaryDirectory() as folder, talking(Path(folder)) as url:
        found = {client.name: driven(client, url) for client in clients()}
    text = section(found)
    results.write_section(SECTION, text, results.ROOT / "docs" / "http.md")
    print(text)
    for client, features in found.items():
        for name, trouble in features.items():
            if trouble:
                print(f"{client}, {name}: {trouble}")


def section(found: Mapping[str, Mapping[str, str]]) -> str:
    """A row a client: what it did, and what went wrong; nothing where it has no such feature."""
    rows = [(client, *(_cell(features.get(name)) for name in FEATURES)) for client, features in found.items()]
    return results.table(("client", *FEATURES.values()), rows)


def _cell(trouble: str | None) -> str:
    if trouble is None:
        return ""
    return "no" if trouble else "yes"


if __name__ == "__main__":
    main()
