"""Clients that are no tenants: whose requests wait behind whose."""

import pytest

from muxjax.server.admission.lines import FAIRNESS, LINES, Lines
from muxjax.server.admission.tenants import ANYONE, Tenant

ONE, OTHER = "192.0.2.1", "192.0.2.2"


def differ(lines: Lines, first: tuple[str | None, str | None], second: tuple[str | None, str | None]) -> bool:
    """Of two clients, by key and address; some pairs of any are dealt to one line, so many are tried."""
    return lines.of(ANYONE, *first) != lines.of(ANYONE, *second)


def most_differ(by: str, first: tuple[str | None, str | None], second: tuple[str | None, str | None]) -> bool:
    count = sum(differ(Lines(by), first, second) for _ in range(40))
    assert count == 0 or count > 30
    return count > 0


@pytest.mark.parametrize(
    ("by", "keys", "addresses"), [("client", True, False), ("key", True, False), ("address", False, True), ("none", False, False)]
)
def test_clients_with_keys_are_told_apart_by_what_is_asked_for(by, keys, addresses):
    assert most_differ(by, ("a", ONE), ("b", ONE)) is keys
    assert most_differ(by, ("a", ONE), ("a", OTHER)) is addresses
    assert by in FAIRNESS


def test_clients_of_an_open_server_are_told_apart_by_address():
    assert most_differ("client", (None, ONE), (None, OTHER))
    assert not most_differ("client", (None, ONE), (None, ONE))
    assert not most_differ("key", (None, ONE), (None, OTHER))


def test_a_client_of_version_6_is_its_network():
    assert not most_differ("client", (None, "2001:db8:0:1::1"), (None, "2001:db8:0:1:ffff::2"))
    assert most_differ("client", (None, "2001:db8:0:1::1"), (None, "2001:db8:0:2::1"))
    assert not most_differ("client", (None, "::ffff:192.0.2.1"), (None, ONE))
    assert not most_differ("client", (None, "fe80::1%eth0"), (None, "fe80::1%eth1"))


def test_a_tenant_is_one_line_and_so_is_whoever_has_no_address():
    alice = Tenant(name="alice")
    assert {Lines(by).of(alice, "key", ONE) for by in FAIRNESS} == {""}
    assert {Lines(by).of(ANYONE, None, None) for by in FAIRNESS} == {""}


def test_lines_are_few_however_many_clients_there_are():
    lines = Lines("client")
    names = {lines.of(ANYONE, None, f"10.0.{i // 256}.{i % 256}") for i in range(20_000)}
    assert LINES * 0.9 < len(names) <= LINES


def test_nobody_outside_knows_whom_a_client_meets():
    assert len({Lines("client").of(ANYONE, None, ONE) for _ in range(20)}) > 5
