"""What one LLM does in a unit, as curves over the length of the unit's turns: nothing here depends on who shares its devices."""

from dataclasses import dataclass
from math import ceil

import numpy as np

from muxjax.cache.layout import CacheLayout
from muxjax.placement.cost import ELEMENT_BYTES, MeshSpec, share
from muxjax.placement.costs import Costs
from muxjax.placement.problem import Demand

TURNS_S = np.geomspace(1e-4, 1e4, 1024)
"""[G] seconds of a turn, in which every LLM of a unit decodes once; next to each other 1.8 % apart."""

TOKEN_BUDGET = 2048
"""Most prompt tokens of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """An LLM that serves its rate in turns of TURNS_S; all are [G], and no batch ever falls.

    Args:
      token_s: between two decodes of a sequence. Over the turn where the LLM often has none: a turn then lasts at least its own step.
      batch: sequences that decode at a time, in the mean.
      decode_s, busy_s: of each of its devices in a turn, for its decodes, and for its prefills as well.
      prefill_s: of one prompt alone.
    """

    token_s: np.ndarray
    batch: np.ndarray
    decode_s: np.ndarray
    busy_s: np.ndarray
    prefill_s: float


def sequence_blocks(demand: Demand, tp: int) -> int:
    """Head blocks of a whole sequence of mean lengths, on each of tp devices.

    Raises:
      ConfigError: tp does not divide the kv heads, or the head size fills no block.
    """
    return CacheLayout.of(share(demand.spec, tp), element_bytes=ELEMENT_BYTES).blocks(ceil(demand.prompt_tokens + demand.output_tokens))


def curves(demand: Demand, rate_rps: float, mesh: MeshSpec, costs: Costs, max_batch: int) -> Curves:
    """Of one LLM, or a replica of it that is to serve rate_rps."""
    tokens_per_s = rate_rps * demand.output_tokens
    alone_s = costs.decode_s(demand.spec, mesh, 1, _context(demand))
    token_s = TURNS_S + alone_s * np.exp(-tokens_per_s * np.maximum(TURNS_S, alone_s))  # no turn is shorter than a token alone
    batch = np.maximum.accumulate(np.minimum(tokens_per_s * token_s, max_batch))
    active = -np.expm1(-batch)
    decode_s = active * _decode_s(demand, mesh, costs, max_batch, batch / active)
    served = batch / demand.output_tokens * TURNS_S / token_s
    return Curves(
        token_s=token_s,
        batch=batch,
        decode_s=decode_s,
        busy_s=decode_s + served * _prefill_s(demand, mesh, costs, np.maximum(served, 1)),
        prefill_s=float(_prefill_s(demand, mesh, costs, np.ones(1))[0]),
    )


def _decode_s(demand: Demand, mesh: MeshSpec, costs: Costs, max_batch: int, batch: np.ndarray) -> np.ndarray:
    """[G] seconds of a decode step of that many sequences, linear between powers of two."""
    sizes = sorted({min(2**power, max_batch) for power in range(max_batch.bit_length() + 1)})
    return np.interp(batch, sizes, [costs.decode_s(demand.spec, mesh, size, size * _context(demand)) for size in sizes])


def _prefill_s(demand: Demand, mesh: MeshSpec, costs: Costs, prompts: np.ndarray) -> np.ndarray:
    """[G] seconds a prompt when so many are prefilled together, at most TOKEN_BUDGET tokens."""
    tokens, context = ceil(demand.prompt_tokens), (demand.prompt_tokens + 1) / 2
    most = max(1, TOKEN_BUDGET // tokens)
    one_s = costs.prefill_s(demand.spec, mesh, tokens, context)
    each_s = costs.prefill_s(demand.spec, mesh, most * tokens, context) / most
    share = 1 / np.minimum(prompts, most)
    return each_s + (one_s - each_s) * (share - 1 / most) / (1 - 1 / most) if most > 1 else np.full_like(share, one_s)


def _context(demand: Demand) -> int:
    """Tokens of a sequence halfway through its output."""
    return ceil(demand.prompt_tokens + demand.output_tokens / 2)
