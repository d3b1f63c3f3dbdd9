"""Configuration of a model in a unit, as a value."""

from dataclasses import dataclass

from muxjax.cache.layout import CacheLayout
from muxjax.engine.grammar import Grammars
from muxjax.engine.speculation.method import Speculation


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Configuration of a model in a unit. `Unit` deals its quota of head blocks from layout, rate and weight.

    Args:
      slots: most sequences at a time.
      max_tokens: most tokens of a sequence, prompt and output.
      vocab: tokens that its requests may name.
      grammars: compiler for its tokenizer; without them no request may have a grammar.
      pools: it has programs that pool hidden states.
      rate: expected requests a second; only the models' ratios count.
      weight: its share of prefills and of the arena, against the other models.
      ttft_s, tpot_s: targets of the time to a first token, and of the mean time between tokens; None for none.
      step_sizes: tokens that its steps with prompts are padded to, ascending; none where that is not known.
      sm_shares: multiprocessors that large steps may keep to, as of `ModelView`.
      lane: stream of the device that its steps run on, as of `Step`.
      speculation: how its tokens are drafted; None where they are not.
      token_cost: what it takes to compute a token again, such as the number of parameters; only the models' ratios count.
    """

    name: str
    layout: CacheLayout
    slots: int
    max_tokens: int
    vocab: int = 2**31 - 1
    grammars: Grammars | None = None
    pools: bool = False
    rate: float = 1.0
    weight: float = 1.0
    ttft_s: float | None = None
    tpot_s: float | None = None
    speculation: Speculation | None = None
    token_cost: float = 1.0
    lane: int = 0
    step_sizes: tuple[int, ...] = ()
    sm_shares: tuple[int, ...] = ()
