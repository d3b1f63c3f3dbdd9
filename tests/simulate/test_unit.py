"""Policies under overload, in small simulations: who gains, and that nobody starves."""

from dataclasses import replace

import pytest

from muxjax.cost.chip import A100, MeshSpec
from muxjax.model_spec import ModelSpec
from muxjax.scheduler.adbs import adbs
from muxjax.scheduler.policies import by_name
from muxjax.simulate.sharing import SERIAL, SPATIAL
from muxjax.simulate.unit import Load, Scenario, simulate
from muxjax.workload.lengths import of_trace
from muxjax.workload.metrics import throughput
from muxjax.workload.trace import Arrival

BLOCK_BYTES = 16 * 1024


def llama(layers: int, width: int, heads: int, ffn: int) -> ModelSpec:
    return ModelSpec(
        vocab=32000,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_dim=128,
        ffn=ffn,
        max_len=2048,
        windows=(None,) * layers,
    )


OVERLOAD = Scenario(
    loads={
        "large": Load(spec=llama(80, 8192, 64, 22016), rate_rps=1, lengths=of_trace("sharegpt", scale=1.0)),
        "small": Load(spec=llama(60, 6656, 52, 17920), rate_rps=8, lengths=of_trace("sharegpt", scale=0.25)),
    },
    mesh=MeshSpec(chip=A100, tp=4),
    cache_bytes=300_000 * BLOCK_BYTES,
    duration_s=60.0,
)


def weighted_rps(policy: str, sharing) -> float:
    return throughput(simulate(OVERLOAD, by_name(policy), sharing, seed=0).served, OVERLOAD.rates, OVERLOAD.duration_s).weighted_rps


def owed(name: str, seed: int) -> float:
    """Of the share of its demand that the model would be served alone, the part that its floor is of the arena."""
    alone = replace(OVERLOAD, loads={name: OVERLOAD.loads[name]})
    picture = OVERLOAD.machine.unit().view(0.0)
    floor_blocks = next(model.floor_blocks for model in picture.models if model.name == name)
    return floor_blocks / picture.total_blocks * simulate(alone, adbs, SPATIAL, seed).shares[name]


def starved(policy, seed: int) -> list[str]:
    shares = simulate(OVERLOAD, policy, SPATIAL, seed).shares
    return [name for name, share in shares.items() if share < owed(name, seed)]


def test_adbs_serves_more_than_round_robin_and_fcfs():
    ours = weighted_rps("adbs", SPATIAL)

    assert ours > weighted_rps("round_robin", SERIAL)
    assert ours > weighted_rps("fcfs", SERIAL)


@pytest.mark.parametrize("seed", range(2))
def test_no_model_starves_under_adbs(seed):
    assert starved(adbs, seed) == []


def test_the_load_is_more_than_the_unit_can_serve():
    assert simulate(OVERLOAD, adbs, SPATIAL, seed=0).shares["large"] < 0.5


def test_the_law_notices_a_policy_that_starves_the_large_model():
    def selfish(view):
        small = [model for model in view.models if model.name == "small"]
        busy = small[0].in_flight or small[0].pending or small[0].running
        return adbs(replace(view, models=tuple(small)) if busy else view)

    assert starved(selfish, seed=0) == ["large"]


def test_the_same_seed_gives_the_same_run():
    first, again, other = (simulate(replace(OVERLOAD, duration_s=10.0), adbs, SPATIAL, seed) for seed in (0, 0, 1))

    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("group_of", "caching", "hits"),
    [
        (lambda i: "tools", True, 9 * 800),
        (lambda i: "tools", False, 0),
        (lambda i: str(i), True, 0),
        (lambda i: str(i % 2), True, 8 * 800),
    ],
)
def test_prompts_of_a_group_begin_alike_and_nothing_else_does(group_of, caching, hits):
    trace = [Arrival(10.0 * i, "large", 1000, 8, prefix_group=group_of(i), prefix_tokens=800) for i in range(10)]

    outcome = replace(OVERLOAD.machine, prefix_caching=caching).serve(trace, adbs, SPATIAL, 200.0)

    large = outcome.stats.models[0]
    assert (large.prefix_hits, large.prefill_tokens) == (hits, 10 * 1000 - hits)


def test_a_cached_beginning_is_served_sooner():
    trace = [Arrival(10.0 * i, "large", 1900, 8, prefix_group="tools", prefix_tokens=1800) for i in range(2)]
    first, second = OVERLOAD.machine.serve(trace, adbs, SPATIAL, 100.0).served
    assert second.first_s - second.arrival_s < 0.5 * (first.first_s - first.arrival_s)
