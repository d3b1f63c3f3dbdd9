"""How long a model's steps take, as they lately did: what a policy goes by that has to keep a target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

_NEWS = 0.1
"""Weight of a new step against all before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of a model's steps in the mean, with whatever ran beside them: the neighbours' part in it is learned with the rest.

    Args:
      step_s: one that only decodes; 0 before the first.
      token_s: what each prompt token of a step adds; 0 before the first.
    """

    step_s: float = 0.0
    token_s: float = 0.0

    def after(self, prompt_tokens: float, seconds: float) -> "Pace":
        """The pace when a step more has ended.

        Args:
          prompt_tokens: of the step; for one on a share of the multiprocessors, as many as all would have done meanwhile.
          seconds: since it was launched, or since the one before it on its lane had ended.
        """
        if not prompt_tokens:
            return replace(self, step_s=_moved(self.step_s, seconds))
        return replace(self, token_s=_moved(self.token_s, max(0.0, seconds - self.step_s) / prompt_tokens))

    def first_s(self, tokens: float) -> float:
        """Seconds to a first token, behind a step that runs and one that is launched, for a prompt of so many tokens."""
        return 3 * self.step_s + tokens * self.token_s

    def tokens_within(self, limit_s: float) -> float:
        """Prompt tokens with which a step takes no longer, infinity while nothing is known of them."""
        return max(0.0, limit_s - self.step_s) / self.token_s if self.token_s else float("inf")


def _moved(mean: float, news: float) -> float:
    return mean + _NEWS * (news - mean) if mean else news


def slowness(sm_shares: Sequence[int], sm_share: int | None) -> float:
    """How many times as long prompt tokens take on a share of the multiprocessors, of which the last of `sm_shares` are all: nearly all of
    it are products, which are dealt out evenly."""
    return sm_shares[-1] / sm_share if sm_shares and sm_share else 1.0


UNKNOWN = Pace()
"""Before the first step."""
