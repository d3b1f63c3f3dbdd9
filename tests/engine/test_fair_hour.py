"""No tenant, no model and no priority starves in an hour under floods, and each gets what its weight says."""

import pytest

from muxjax.scheduler.policies import BY_NAME
from tests.engine.hour import Client, hour, machine

CALM_S = 60.0
PROMPT = 75.0
"""Seconds within which a client has its first token who asks for little: some steps, whatever the flood."""


def worst_s(clients: list[Client], policy: str, weights: dict[str, float] | None = None) -> dict[str, float]:
    """The longest wait for a first token of each client."""
    accounts = hour(machine(weights or {"a": 1.0}), BY_NAME[policy], clients)
    return {name: max(account.waits_s) for name, account in accounts.items()}


@pytest.mark.parametrize("policy", BY_NAME)
def test_a_flooding_tenant_holds_up_no_other(policy):
    waits_s = worst_s([Client(name="flood", tenant="f", keeps=64), Client(name="calm", tenant="c", every_s=CALM_S)], policy)
    assert waits_s["calm"] < PROMPT < waits_s["flood"]


@pytest.mark.parametrize("policy", BY_NAME)
def test_a_flooding_client_without_a_name_holds_up_no_other(policy):
    waits_s = worst_s([Client(name="flood", line="f", keeps=64), Client(name="calm", line="c", every_s=CALM_S)], policy)
    assert waits_s["calm"] < PROMPT < waits_s["flood"]


def test_within_one_line_a_flood_holds_up_everybody():
    """What the tenants and clients of the tests before are spared."""
    waits_s = worst_s([Client(name="flood", keeps=64), Client(name="calm", every_s=CALM_S)], "adbs")
    assert waits_s["calm"] > 2 * PROMPT


@pytest.mark.parametrize("policy", ["adbs", "round_robin"])
def test_a_flooded_model_holds_up_no_other(policy):
    clients = [Client(name="flood", keeps=64), Client(name="calm", model="b", every_s=CALM_S)]
    waits_s = worst_s(clients, policy, {"a": 1.0, "b": 1.0})
    assert waits_s["calm"] < PROMPT < waits_s["flood"]


def test_two_floods_share_a_model_by_their_weights():
    clients = [Client(name="three", tenant="t", weight=3.0, keeps=48), Client(name="one", tenant="o", keeps=48)]
    accounts = hour(machine({"a": 1.0}), BY_NAME["adbs"], clients)
    assert accounts["three"].tokens / accounts["one"].tokens == pytest.approx(3.0, rel=0.15)


def test_two_flooded_models_share_the_device_by_their_weights():
    clients = [Client(name="three", model="a", keeps=48), Client(name="one", model="b", keeps=48)]
    accounts = hour(machine({"a": 3.0, "b": 1.0}), BY_NAME["adbs"], clients)
    even = hour(machine({"a": 1.0, "b": 1.0}), BY_NAME["adbs"], clients)
    assert accounts["three"].tokens / accounts["one"].tokens == pytest.approx(3.0, rel=0.3)
    assert even["three"].tokens / even["one"].tokens == pytest.approx(1.0, rel=0.1)


def test_priority_goes_first_and_the_last_in_line_still_gets_there():
    """Ten levels are worth 100 s: the low ones wait so much longer than the flood before them, and no more."""
    clients = [
        Client(name="flood", keeps=64),
        Client(name="urgent", priority=-100, every_s=CALM_S),
        Client(name="low", priority=10, every_s=CALM_S),
    ]
    accounts = hour(machine({"a": 1.0}), BY_NAME["adbs"], clients)
    worst = {name: max(account.waits_s) for name, account in accounts.items()}
    assert worst["urgent"] < PROMPT < worst["flood"] < worst["low"] < worst["flood"] + 100 + PROMPT
    assert accounts["low"].answers > 20
