"""Weights and caches in fewer bits: less memory, and less to read."""

from dataclasses import replace

import pytest

from muxjax.cost.chip import A100, H200, MeshSpec
from muxjax.cost.measured import costs_of
from muxjax.cost.roofline import Roofline, kv_bytes_per_token, weight_bytes
from muxjax.errors import ConfigError
from muxjax.placement.check import violations
from muxjax.placement.estimate.curves import sequence_blocks
from muxjax.placement.greedy import place
from muxjax.placement.problem import Cluster, Demand, Problem
from muxjax.placement.search_space import search_space
from muxjax.specs.published import BY_NAME

LARGE = Demand(name="large", spec=BY_NAME["llama-65b"], rate_rps=0.5, prompt_tokens=200, output_tokens=300)


def test_what_is_held_in_half_the_bits_takes_half_the_bytes():
    halved = replace(LARGE, weights="fp8", cache="int8")
    asked = Problem(demands=(LARGE,), cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=2))
    usual, narrow = asked.mesh(LARGE, 2), asked.mesh(halved, 2)

    assert usual == MeshSpec(chip=A100, tp=2)
    assert weight_bytes(LARGE.spec, narrow) == weight_bytes(LARGE.spec, usual) // 2
    assert kv_bytes_per_token(LARGE.spec, narrow) == kv_bytes_per_token(LARGE.spec, usual) // 2
    assert sequence_blocks(halved, 2) == pytest.approx(sequence_blocks(LARGE, 2) / 2, rel=0.1)
    assert weight_bytes(LARGE.spec, asked.mesh(replace(LARGE, weights="int4"))) == LARGE.spec.params // 2


def test_a_decode_that_reads_less_is_faster_and_is_never_taken_for_a_measured_one():
    """An H200's decodes of the 8B are measured, in 16 bits."""
    spec, costs = BY_NAME["llama-3.1-8b"], costs_of([H200])
    usual, narrow = MeshSpec(chip=H200), MeshSpec(chip=H200, bytes_per_weight=1)

    assert costs.decode_s(spec, usual, 8, 4000) != Roofline().decode_s(spec, usual, 8, 4000)
    assert costs.decode_s(spec, narrow, 8, 4000) == Roofline().decode_s(spec, narrow, 8, 4000) < costs.decode_s(spec, usual, 8, 4000)


def test_a_model_that_fits_on_no_device_does_in_fewer_bits():
    problem = Problem(demands=(LARGE,), cluster=Cluster.uniform(chip=A100, nodes=1, devices_per_node=1))
    with pytest.raises(ConfigError, match="fits no mesh"):
        search_space(problem, Roofline())
    narrow = replace(problem, demands=(replace(LARGE, weights="int4"),))
    placement = place(narrow, *search_space(narrow, Roofline())).placement

    assert violations(narrow, placement) == []
    assert "need" in violations(problem, placement)[0]
