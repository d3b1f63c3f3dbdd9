"""Mixture of experts: what a model says of its own."""

from dataclasses import dataclass, replace

from muxjax.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The MLPs among which a router chooses for each token, in layers that have them in place of one MLP for all tokens.

    Args:
      count: X, of a layer; per_token: A, those that compute a token; ffn: F of each.
      layers: that have experts.
      shared_ffn: F of an MLP that computes every token beside them, 0 for none; shared_gate: a sigmoid of the token weighs it.
      sigmoid: scores are sigmoids of the router's logits, and a bias is added where experts are chosen by them; else a softmax.
      groups: in which experts lie; a token's are of the best `groups_per_token` of them, which are those with the best expert, or by
        sigmoids the best two together.
      biases: router and experts have biases.
      clamp: gate and up are kept within this, and alternate; then gate sigmoid(1.702 gate) (up + 1) is made of them, and no SiLU
        (GPT-OSS). None for any other MLP.
      normed: the weights of a token's experts add up to 1; scale: multiplies them.
    Raises:
      ConfigError: a token would have more experts than there are.
    """

    count: int
    per_token: int
    ffn: int
    layers: tuple[int, ...]
    shared_ffn: int = 0
    shared_gate: bool = False
    sigmoid: bool = False
    groups: int = 1
    groups_per_token: int = 1
    biases: bool = False
    clamp: float | None = None
    normed: bool = True
    scale: float = 1.0

    def __post_init__(self):
        if self.per_token > self.count:
            said = f"num_experts_per_tok must be at most the number of experts, {self.count}, got {self.per_token}"
            raise ConfigError(said, field="num_experts_per_tok")
        if self.count % self.groups or self.groups_per_token > self.groups:
            said = f"n_group must divide the number of experts, {self.count}, and be at least topk_group={self.groups_per_token}"
            raise ConfigError(f"{said}, got {self.groups}", field="n_group")
        if self.per_token > self.count // self.groups * self.groups_per_token:
            most = f"the experts of topk_group={self.groups_per_token} of {self.groups} groups"
            raise ConfigError(f"num_experts_per_tok must be at most {most}, got {self.per_token}", field="num_experts_per_tok")
        if self.sigmoid and self.groups > 1 and self.count // self.groups < 2:
            raise ConfigError(f"n_group must leave at least two of {self.count} experts to each, got {self.groups}", field="n_group")

    def params(self, width: int, read: float) -> float:
        """Parameters of a layer's router and shared MLP, and of so many of its experts."""
        router = (width + self.sigmoid + self.biases) * self.count + self.shared_gate * width
        biases = self.biases * (2 * self.ffn + width) * read
        return router + biases + 3 * width * (self.shared_ffn + self.ffn * read)

    def share(self, tp: int) -> "Experts":
        """What one of tp devices has: a part of each."""
        return replace(self, ffn=self.ffn // tp, shared_ffn=self.shared_ffn // tp)
