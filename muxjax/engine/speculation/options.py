"""Options of speculative decoding."""

from dataclasses import dataclass

from muxjax.errors import require, require_within

DRAFT_MODEL = "draft_model"
SPECULATIVE_METHODS = ("ngram", DRAFT_MODEL)
MOST_SPECULATIVE_TOKENS, MOST_LOOKED_FOR = 16, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculativeOptions:
    """Speculative decoding of a model: several tokens are drafted, and checked in one step. Answers are the same with it and without.

    Args:
      method: of SPECULATIVE_METHODS: ngram (prompt lookup) drafts what stood behind the text's last tokens where they stood before, in
        prompt or answer; draft_model has another model of the unit draft.
      model: that one's name; None for ngram.
      num_speculative_tokens: most that are drafted at a time.
      prompt_lookup_max: most of the last tokens that are looked for.
      prompt_lookup_min: fewest of them that must be found; None for 2, or as many as are looked for where that is 1.
    Raises:
      ConfigError: a value outside its range.
    """

    method: str
    model: str | None = None
    num_speculative_tokens: int = 4
    prompt_lookup_max: int = 4
    prompt_lookup_min: int | None = None

    def __post_init__(self):
        require(self.method in SPECULATIVE_METHODS, "method", self.method, "one of " + ", ".join(SPECULATIVE_METHODS))
        is_named = self.method == DRAFT_MODEL
        require((self.model is not None) == is_named, "model", self.model, "the name of a model" if is_named else f"none for {self.method}")
        require_within(self, "num_speculative_tokens", 1, MOST_SPECULATIVE_TOKENS)
        require_within(self, "prompt_lookup_max", 1, MOST_LOOKED_FOR)
        least, most = self.prompt_lookup_min, self.prompt_lookup_max
        require(least is None or 1 <= least <= most, "prompt_lookup_min", least, f"1 to prompt_lookup_max={most}")

    @property
    def fewest_found(self) -> int:
        """`prompt_lookup_min`, or its default."""
        return min(2, self.prompt_lookup_max) if self.prompt_lookup_min is None else self.prompt_lookup_min
