"""Equation 3, with steps whose cost one can work out by hand."""

import math
from dataclasses import dataclass, replace

import pytest

from muxjax.cost.chip import A100, MeshSpec
from muxjax.model_spec import ModelSpec
from muxjax.placement.estimate.equation3 import estimate
from muxjax.placement.problem import Cluster, Demand, Placed, Problem, UnitPlan
from muxjax.specs.published import BY_NAME


@dataclass(frozen=True)
class Simple:
    """A prompt token takes a millisecond, a decode step 10 ms and another for each sequence."""

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        return tokens * 1e-3

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        return 10e-3 + batch * 1e-3


def found(rates: dict[str, float], **changes):
    """Of LLMs of 7B, prompts of 100 tokens and outputs of 50, on one device."""
    demands = tuple(
        Demand(name=name, spec=BY_NAME["llama-7b"], rate_rps=rate, prompt_tokens=100, output_tokens=50) for name, rate in rates.items()
    )
    problem = replace(Problem(demands=demands, cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=1)), **changes)
    placed = tuple(Placed(model=name, rate_rps=rate, devices=(0,)) for name, rate in rates.items())
    return estimate(problem, Simple(), UnitPlan(devices=1, members=placed))


def test_the_batch_is_the_least_that_meets_the_rate():
    """A batch of 2 serves 2 / (0.2 + 50 x 12 ms) = 2.5 a second, one alone 1 / (0.1 + 50 x 11 ms) = 1.54."""
    one = found({"a": 2.4})["a"]

    assert (one.batch, one.throughput_rps) == (2, 2.4)
    assert (one.ttft_s, one.tpot_s) == pytest.approx((0.2, 0.012))
    assert found({"a": 1.5})["a"].batch == 1


def test_the_prefills_of_all_and_the_decodes_of_oneself_are_waited_for():
    """Batches of 4 each: 4 / (2 x 0.4 + 50 x 14 ms)."""
    both = found({"a": 1000.0, "b": 1000.0}, max_batch=4)

    assert both["a"].throughput_rps == both["b"].throughput_rps == pytest.approx(4 / (0.8 + 0.7))
    assert both["a"].ttft_s == math.inf


def test_batches_stay_within_the_head_blocks():
    """60 % of 80 GB less 13.5 GB of weights leaves 2.1 million blocks of 16 KiB; a sequence has 5 columns of 1,024."""
    one = found({"a": 1e6}, max_batch=4096, memory_frac=0.6)["a"]

    blocks = (int(0.6 * A100.memory_bytes) - 2 * BY_NAME["llama-7b"].params) // 2**14
    assert 0.85 * blocks < one.blocks <= blocks
    assert one.blocks == one.batch * 5 * 1024
