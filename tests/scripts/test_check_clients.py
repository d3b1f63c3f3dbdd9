"""Real clients, unchanged and in their default modes, against our server; `make clients` gets them."""

import pytest

from scripts.check_clients import SECTION, section
from scripts.results import ROOT
from tests.clients.driving import Client, clients, driven, talking

CLIENTS = clients()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with talking(tmp_path_factory.mktemp("talks")) as address:
        yield address


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, str]]:
    """What each client has told."""
    return {}


@pytest.mark.parametrize("client", CLIENTS, ids=[client.name for client in CLIENTS])
def test_a_client_works_unchanged(client: Client, url, found):
    if not client.command:
        pytest.skip("not here: `make clients` gets it")
    found[client.name] = driven(client, url)
    assert {name: trouble for name, trouble in found[client.name].items() if trouble} == {}


def test_the_table_tells_what_the_clients_did(found):
    if len(found) < len(CLIENTS):
        pytest.skip("not all clients are here: `make clients` gets them")
    text = (ROOT / "docs" / "http.md").read_text()
    assert text.partition(f"<!-- {SECTION} -->\n")[2].partition(f"<!-- end of {SECTION} -->")[0].strip() == section(found).strip()
