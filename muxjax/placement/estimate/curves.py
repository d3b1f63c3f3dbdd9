"""Curves of one LLM in a unit, over the length of the unit's turns: nothing here depends on who shares its devices."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil

import numpy as np

from muxjax.buckets import PREFILL_ROWS, TOKEN_BUDGET
from muxjax.cache.layout import CacheLayout
from muxjax.cost import contention
from muxjax.cost.chip import MeshSpec
from muxjax.cost.cost_model import CostModel
from muxjax.cost.roofline import ELEMENT_BYTES
from muxjax.cost.step import step_cost
from muxjax.placement.problem import Demand

TURNS_S = np.geomspace(1e-4, 1e4, 1024)
"""[G] seconds of a turn, in which every LLM of a unit decodes once; next to each other 1.8 % apart."""

LAYERS = 32
"""On lanes, where a turn lasts as long as the LLM has layers, TURNS_S are those of one with so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Costs of LLMs' steps, in batches of any size; M of them at once, whose batches are rows.

    Args:
      sizes: [S] batches; sizes_MS: seconds of a decode step of each, linear in between; hidden_MS: those of them that the step takes
        nothing of the device, so that others have it.
      most_prompts_M1: that one step prefills; one_s_M1, each_s_M1: seconds a prompt when it is alone, and when there are so many.
      output_tokens_M1: of a request, in the mean.
    """

    sizes: np.ndarray
    sizes_MS: np.ndarray
    hidden_MS: np.ndarray
    most_prompts_M1: np.ndarray
    one_s_M1: np.ndarray
    each_s_M1: np.ndarray
    output_tokens_M1: np.ndarray

    @classmethod
    def together(cls, steps: Sequence["Steps"]) -> "Steps":
        """Those of several LLMs, of batches of the same sizes."""
        rows = fields(cls)[1:]
        return cls(sizes=steps[0].sizes, **{row.name: np.concatenate([getattr(one, row.name) for one in steps]) for row in rows})

    def decode_s(self, batch_MG: np.ndarray) -> np.ndarray:
        """In a turn, where so many sequences decode at a time, in the mean, and none often does where they are few."""
        return self._decodes(batch_MG, self.sizes_MS)

    def hidden_s(self, batch_MG: np.ndarray) -> np.ndarray:
        """In a turn, of `decode_s`."""
        return self._decodes(batch_MG, self.hidden_MS) if self.hidden_MS.any() else np.zeros_like(batch_MG)

    def prefills_s(self, batch_MG: np.ndarray, token_s_MG: np.ndarray, turn_s: np.ndarray) -> np.ndarray:
        """In a turn, of the prefills that keep so many decoding, a token every token_s."""
        served_MG = batch_MG / self.output_tokens_M1 * turn_s / token_s_MG
        return served_MG * self._prefill_s(np.maximum(served_MG, 1))

    def _decodes(self, batch_MG: np.ndarray, of_sizes_MS: np.ndarray) -> np.ndarray:
        """In a turn, of what decode steps of `sizes` take."""
        active_MG = -np.expm1(-batch_MG)
        rows = zip(batch_MG / active_MG, of_sizes_MS, strict=True)
        return active_MG * np.array([np.interp(row, self.sizes, of_sizes) for row, of_sizes in rows])

    def _prefill_s(self, prompts_MG: np.ndarray) -> np.ndarray:
        """A prompt, when so many are prefilled together."""
        least_M1 = 1 / self.most_prompts_M1
        share_MG = 1 / np.minimum(prompts_MG, self.most_prompts_M1)
        saved_MG = (share_MG - least_M1) / np.maximum(1 - least_M1, least_M1)  # of a step that takes one prompt: nothing
        return self.each_s_M1 + (self.one_s_M1 - self.each_s_M1) * saved_MG


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """An LLM that serves its whole rate, but for the largest batch.

    Args:
      turn_s: [G] of the LLM: TURNS_S, and on lanes what those are for as many layers as it has.
      token_s: [G] between two decodes of a sequence. Over the turn where the LLM often has none: a turn then lasts at least its own step.
      batch: [G] sequences that decode at a time, in the mean; it never falls.
      busy: [G] share of a turn that its steps take, were it alone; hidden: [G] what of it others have the device.
    """

    turn_s: np.ndarray
    token_s: np.ndarray
    batch: np.ndarray
    busy: np.ndarray
    hidden: np.ndarray
    steps: Steps


def sequence_blocks(demand: Demand, tp: int) -> int:
    """Head blocks of a whole sequence of mean lengths, on each of tp devices.

    Raises:
      ConfigError: tp does not divide the kv heads, or the head size fills no block.
    """
    return CacheLayout.of(demand.spec.share(tp), element_bytes=ELEMENT_BYTES).blocks(ceil(demand.prompt_tokens + demand.output_tokens))


def curves(demand: Demand, rate_rps: float, mesh: MeshSpec, costs: CostModel, max_batch: int, *, on_lane: bool = False) -> Curves:
    """Curves of one LLM, or a replica of it that is to serve rate_rps.

    Args:
      on_lane: beside others on its device, not in turn with them.
    """
    steps, tokens_per_s = _steps(demand, mesh, costs, max_batch, on_lane), rate_rps * demand.output_tokens
    turn_s, alone_s = TURNS_S * demand.spec.layers / LAYERS if on_lane else TURNS_S, float(steps.sizes_MS[0, 0])
    token_s = turn_s + alone_s * np.exp(-tokens_per_s * np.maximum(turn_s, alone_s))  # no turn is shorter than a token alone
    batch = np.maximum.accumulate(np.minimum(tokens_per_s * token_s, max_batch))
    return Curves(
        turn_s=turn_s,
        token_s=token_s,
        batch=batch,
        busy=(steps.decode_s(batch[None]) + steps.prefills_s(batch[None], token_s, turn_s))[0] / turn_s,
        hidden=steps.hidden_s(batch[None])[0] / turn_s,
        steps=steps,
    )


def _steps(demand: Demand, mesh: MeshSpec, costs: CostModel, max_batch: int, on_lane: bool) -> Steps:
    sizes = sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})
    tokens, context = ceil(demand.prompt_tokens), (demand.prompt_tokens + 1) / 2
    most = min(PREFILL_ROWS, max(1, TOKEN_BUDGET // tokens))
    one_s, each_s = (costs.prefill_s(demand.spec, mesh, prompts * tokens, context) / prompts for prompts in (1, most))
    return Steps(
        sizes=np.array(sizes),
        sizes_MS=np.array([[costs.decode_s(demand.spec, mesh, size, size * _context(demand)) for size in sizes]]),
        hidden_MS=np.array([[_hidden_s(demand, mesh, costs, size) if on_lane else 0.0 for size in sizes]]),
        most_prompts_M1=np.array([[most]]),
        one_s_M1=np.array([[one_s]]),
        each_s_M1=np.array([[each_s]]),
        output_tokens_M1=np.array([[demand.output_tokens]]),
    )


def _hidden_s(demand: Demand, mesh: MeshSpec, costs: CostModel, batch: int) -> float:
    """Of a decode step."""
    cost = step_cost(demand.spec, mesh, costs, batch=batch, context_tokens=batch * _context(demand))
    return cost.total_s - contention.taken_s(cost)


def _context(demand: Demand) -> int:
    """Tokens of a sequence halfway through its output."""
    return ceil(demand.prompt_tokens + demand.output_tokens / 2)
