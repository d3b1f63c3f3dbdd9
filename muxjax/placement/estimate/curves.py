"""Curves of one LLM in a unit, over the length of the unit's turns: nothing here depends on who shares its devices."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import numpy as np

from muxjax.buckets import PREFILL_ROWS, TOKEN_BUDGET
from muxjax.cache.layout import CacheLayout
from muxjax.cost import contention
from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.step import step_cost
from muxjax.placement.problem import PRECISIONS, Demand

TURNS_S = np.geomspace(1e-4, 1e4, 1024)
"""[G] seconds of a turn, in which every LLM of a unit decodes once; next to each other 1.8 % apart."""

LAYERS = 32
"""On lanes, where a turn lasts as long as the LLM has layers, TURNS_S are those of one with so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What an LLM does in a turn, in seconds.

    Args:
      decode_s: of its decodes; hidden_s: those of them in which others have the device; prefill_s: of its prefills.
    """

    decode_s: float
    hidden_s: float
    prefill_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Costs of an LLM's steps, in batches of any size.

    Args:
      sizes: of batches, ascending; decode_s: seconds of a decode step of each, linear in between; hidden_s: those of them that the step
        takes nothing of the device, so that others have it.
      most_prompts: that one step prefills; one_s, each_s: seconds a prompt when it is alone, and when there are so many.
      output_tokens: of a request, in the mean.
    """

    sizes: Sequence[float]
    decode_s: Sequence[float]
    hidden_s: Sequence[float]
    most_prompts: int
    one_s: float
    each_s: float
    output_tokens: float

    def turns(self, batch: np.ndarray, token_s: np.ndarray, turn_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The fields of `Turn`, of so many turns [G] at once."""
        active = -np.expm1(-batch)  # in a turn, where so many sequences decode at a time, none often does where they are few
        decode_s, hidden_s = (active * np.interp(batch / active, self.sizes, of_sizes) for of_sizes in (self.decode_s, self.hidden_s))
        served = batch / self.output_tokens * turn_s / token_s
        return decode_s, hidden_s, served * self._prefill_s(1 / np.clip(served, 1, self.most_prompts))

    def turn(self, batch: float, token_s: float, turn_s: float) -> Turn:
        """One turn, in which so many sequences decode, a token every token_s: as of `turns`, but many times as fast."""
        active = -math.expm1(-batch)
        served = batch / self.output_tokens * turn_s / token_s
        share = 1 / min(max(served, 1.0), self.most_prompts)
        at, part = self._place(batch / active)
        return Turn(
            decode_s=active * (self.decode_s[at] + part * (self.decode_s[at + 1] - self.decode_s[at])),
            hidden_s=active * (self.hidden_s[at] + part * (self.hidden_s[at + 1] - self.hidden_s[at])),
            prefill_s=served * self._prefill_s(share),
        )

    def _place(self, batch: float) -> tuple[int, float]:
        """The size below, and how far on the way to the next one it is, in [0, 1]."""
        at = min(max(bisect_right(self.sizes, batch) - 1, 0), len(self.sizes) - 2)
        return at, min(max((batch - self.sizes[at]) / (self.sizes[at + 1] - self.sizes[at]), 0.0), 1.0)

    def _prefill_s(self, share):
        """A prompt's, when it is so much of the prompts that are prefilled together."""
        least = 1 / self.most_prompts
        saved = (share - least) / max(1 - least, least)  # of a step that takes one prompt: nothing
        return self.each_s + (self.one_s - self.each_s) * saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """An LLM that serves its whole rate, but for the largest batch, in turns of different length, G of them.

    Args:
      turn_s: of the LLM: TURNS_S, and on lanes what those are for as many layers as it has.
      token_s: between two decodes of a sequence. Over the turn where the LLM often has none: a turn then lasts at least its own step.
      batch: sequences that decode at a time, in the mean; it never falls.
      busy: share of a turn that its steps take, were it alone; taken: of the device, beside others. Neither ever rises: who can do with
        a shorter turn can do with a longer one.

    They are looked into one value at a time, which arrays are slow at.
    """

    turn_s: memoryview
    token_s: memoryview
    batch: memoryview
    busy: memoryview
    taken: memoryview
    steps: Steps


def sequence_blocks(demand: Demand, tp: int) -> int:
    """Head blocks of a whole sequence of mean lengths, on each of tp devices.

    Raises:
      ConfigError: tp does not divide the kv heads, or the head size fills no block.
    """
    layout = CacheLayout.of(demand.spec.share(tp), element_bytes=int(PRECISIONS[demand.cache]))
    return layout.blocks(ceil(demand.prompt_tokens + demand.output_tokens))


def curves(demand: Demand, rate_rps: float, mesh: MeshSpec, costs: CostModel, max_batch: int, *, on_lane: bool = False) -> Curves:
    """Curves of one LLM, or a replica of it that is to serve rate_rps.

    Args:
      on_lane: beside others on its device, not in turn with them.
    """
    steps = _steps(replace(demand, name="", rate_rps=1.0, ttft_s=None, tpot_s=None), mesh, costs, max_batch, on_lane)
    tokens_per_s = rate_rps * demand.output_tokens
    turn_s, alone_s = TURNS_S * demand.spec.layers / LAYERS if on_lane else TURNS_S, steps.decode_s[0]
    token_s = turn_s + alone_s * np.exp(-tokens_per_s * np.maximum(turn_s, alone_s))  # no turn is shorter than a token alone
    batch = np.maximum.accumulate(np.minimum(tokens_per_s * token_s, max_batch))
    decode_s, hidden_s, prefill_s = steps.turns(batch, token_s, turn_s)
    busy = (decode_s + prefill_s) / turn_s
    return Curves(
        turn_s=turn_s.data,
        token_s=token_s.data,
        batch=batch.data,
        busy=np.minimum.accumulate(busy).data,
        taken=np.minimum.accumulate(busy - hidden_s / turn_s).data,
        steps=steps,
    )


@lru_cache(maxsize=2**14)
def _steps(demand: Demand, mesh: MeshSpec, costs: CostModel, max_batch: int, on_lane: bool) -> Steps:
    """Of the LLM, whatever its rate."""
    sizes = sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})
    sizes += [max_batch + 1] * (len(sizes) == 1)
    tokens, context = ceil(demand.prompt_tokens), (demand.prompt_tokens + 1) / 2
    most = min(PREFILL_ROWS, max(1, TOKEN_BUDGET // tokens))
    one_s, each_s = (costs.prefill_s(demand.spec, mesh, prompts * tokens, context) / prompts for prompts in (1, most))
    return Steps(
        sizes=sizes,
        decode_s=[costs.decode_s(demand.spec, mesh, size, size * _context(demand)) for size in sizes],
        hidden_s=[_hidden_s(demand, mesh, costs, size) if on_lane else 0.0 for size in sizes],
        most_prompts=most,
        one_s=one_s,
        each_s=each_s,
        output_tokens=demand.output_tokens,
    )


def _hidden_s(demand: Demand, mesh: MeshSpec, costs: CostModel, batch: int) -> float:
    """Of a decode step."""
    cost = step_cost(demand.spec, mesh, costs, batch=batch, context_tokens=batch * _context(demand))
    return cost.total_s - contention.taken_s(cost)


def _context(demand: Demand) -> int:
    """Tokens of a sequence halfway through its output."""
    return ceil(demand.prompt_tokens + demand.output_tokens / 2)
