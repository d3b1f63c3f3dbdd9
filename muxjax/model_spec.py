"""The shape of a decoder, as a value."""

from dataclasses import dataclass, replace

from muxjax.errors import ConfigError
from muxjax.experts import Experts
from muxjax.quantization import Quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Stretching of rotary frequencies.

    Args:
      kind: "linear" reads the factor alone; "llama3" the low and high one and the original length too; "yarn" the original length and
        what begins with `beta`; "longrope" `factors`, one for each frequency.
      attention_factor: multiplies the rotated queries and keys, of yarn and longrope.
      beta_fast, beta_slow: turns over the original length, above which a frequency is kept and below which it is stretched whole;
        beta_whole: between frequencies, not within them.
      query_beta: queries are multiplied by 1 and this times the logarithm of 1 and the whole original lengths before them (Ministral 3).
    Source: Hugging Face's rope_scaling / rope_parameters.
    """

    kind: str
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 1.0
    original_max_len: int = 0
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    beta_whole: bool = True
    factors: tuple[float, ...] = ()
    query_beta: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Keys and values of all heads as one vector of a token, which is all that is cached of it (DeepSeek's MLA).

    Args:
      rank: R, of that vector, of which each head has its keys and values; rotated: numbers behind it that are rotated, and a part of
        all heads' keys.
      key: of a head's query and key, beside the rotated ones; value: of its value.
      q_rank: of the vector of which queries are made; None where they are made of what attention reads.
    """

    rank: int
    rotated: int
    key: int
    value: int
    q_rank: int | None = None

    def params(self, width: int, heads: int) -> int:
        """Of a layer's attention, norms included, biases not."""
        q_width = heads * (self.key + self.rotated)
        q = width * q_width if self.q_rank is None else self.q_rank * (width + q_width + 1)
        kv = width * (self.rank + self.rotated) + self.rank + self.rank * heads * (self.key + self.value)
        return q + kv + heads * self.value * width


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shape and variant of a decoder: all that its programs, its cache and its cost depend on.

    Args:
      width: M; ffn: F of layers without experts; kv_heads: K; head_dim: D.
      latent: of attention over latents, whose one kv head is the latent and what is rotated: K is 1, and D the size of both; else None.
      windows: attention window of each layer in tokens, None for the whole context.
      qkv_bias, out_bias, mlp_bias: which projections have biases.
      norm: what norms are: "rms"; "rms_offset", which multiplies by 1 and its weight (Gemma); "layer", a LayerNorm without biases (Cohere);
        "layer_biased", one with (StarCoder2). qk_norm: one of queries and of keys before the rotation: "head", over each head (Qwen3);
        "own", the same by weights of the head's own (Cohere); "projection", over all heads together (OLMo 2); None for none.
      pre_norms, post_norms: attention and MLP have a norm of what they read, and of what they add to the residual stream.
      parallel: the MLP reads what attention reads, by the same norm, and both are added at once (Cohere).
      mlp: "swiglu", "geglu", whose gate is a GELU by tanh and no SiLU (Gemma), or "gelu", two matrices with that between (StarCoder2).
      local_rope_theta: of layers with a window, which nothing stretches; None for the same rotation in all layers.
      rotary_dim: how many of each head's numbers, the first ones, the rotary embedding turns; None for all.
      unrotated: layers without rotary embedding.
      embed_scale: multiplies embeddings; residual_scale: what attention and MLP add; attention_scale: scores, None for
        head_dim ** -0.5; logit_divisor: divides logits.
      sinks: each head has a score for a token that is none, which takes its share of the attention (GPT-OSS).
      attention_soft_cap, logit_soft_cap: scores and logits are bent to stay within plus and minus this, by tanh; None for as they are.
      interleaved: the rotary embedding turns neighbours, and not a number of each half; experts: of layers that have some, None for none.
      cache_scales: the checkpoint has a scale by which a layer's keys are divided while they are cached, and one for its values.
      naming: the family after whose names checkpoints call their tensors; see `specs/tensor_names.py`.
      tied: the output head is the embedding; max_len: most positions the model was made for.
      dtype: of the weights, as numpy names it; eos_ids: tokens that end a generation unless the client ignores them.
      quantization: of matrices that are held in fewer bits; None where all have the dtype.
    Raises:
      ConfigError: heads is no multiple of kv_heads, a window is missing, or a quantised matrix does not divide into its groups.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    max_len: int
    windows: tuple[int | None, ...]
    latent: Latent | None = None
    norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    norm: str = "rms"
    qk_norm: str | None = None
    pre_norms: bool = True
    post_norms: bool = False
    parallel: bool = False
    mlp: str = "swiglu"
    local_rope_theta: float | None = None
    rotary_dim: int | None = None
    unrotated: tuple[int, ...] = ()
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    logit_divisor: float = 1.0
    sinks: bool = False
    attention_soft_cap: float | None = None
    logit_soft_cap: float | None = None
    interleaved: bool = False
    experts: Experts | None = None
    cache_scales: bool = False
    naming: str = "llama"
    tied: bool = False
    dtype: str = "bfloat16"
    eos_ids: tuple[int, ...] = ()
    quantization: Quantization | None = None

    def __post_init__(self):
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"num_attention_heads must be a multiple of num_key_value_heads={self.kv_heads}, got {self.heads}",
                field="num_attention_heads",
            )
        if len(self.windows) != self.layers:
            raise ConfigError(f"a window for each of {self.layers} layers is needed, got {len(self.windows)}", field="windows")
        for kind, (_, inputs, _) in self._quantised(0).items():
            self._require_groups(kind, inputs)

    @property
    def group(self) -> int:
        """G: query heads that share one kv head."""
        return self.heads // self.kv_heads

    @property
    def kv_elements(self) -> int:
        """Numbers of one token in one layer's cache: K and V of all kv heads, or the latent."""
        return self.head_dim if self.latent else 2 * self.kv_heads * self.head_dim

    @property
    def is_gated(self) -> bool:
        """The MLP's hidden numbers are products of two."""
        return self.mlp != "gelu"

    @property
    def qkv_by_group(self) -> bool:
        """A layer's matrix for q, k and v has each kv head's query heads, k and v side by side; else all heads of q first."""
        return self.naming == "internlm2"

    @property
    def norm_params(self) -> int:
        """Of a norm of the residual stream."""
        return self.width * (2 if self.norm == "layer_biased" else 1)

    @property
    def dense_layers(self) -> tuple[int, ...]:
        """Those that have one MLP for all tokens."""
        return tuple(layer for layer in range(self.layers) if not self.experts or layer not in self.experts.layers)

    @property
    def params(self) -> int:
        """Number of parameters, biases and norms included."""
        return int(self.params_with(self.experts.count if self.experts else 0))

    @property
    def active_params(self) -> int:
        """Number of those that compute a token."""
        return int(self.params_with(self.experts.per_token if self.experts else 0))

    def params_with(self, experts: float) -> float:
        """Number of parameters if each layer that has experts had so many."""
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = self.latent.params(self.width, self.heads) if self.latent else 2 * self.width * (q_width + kv_width)
        qkv_biases = self.head_dim + (self.latent.q_rank or 0) if self.latent else q_width + 2 * kv_width
        biases = self.qkv_bias * qkv_biases + self.out_bias * self.width
        qk_norms = {None: 0, "head": 2 * self.head_dim, "own": q_width + kv_width, "projection": q_width + kv_width}
        norms = self.norm_params * (self.pre_norms * (2 - self.parallel) + self.post_norms * 2)
        norms += qk_norms[self.qk_norm] + self.sinks * self.heads
        read = 2 if self.is_gated else 1
        mlp = (read + 1) * self.width * self.ffn + self.mlp_bias * (read * self.ffn + self.width)
        mlps = len(self.dense_layers) * mlp + (len(self.experts.layers) * self.experts.params(self.width, experts) if self.experts else 0)
        return self.layers * (attention + biases + norms) + mlps + self.vocab * self.width * (1 if self.tied else 2) + self.norm_params

    def weight_bytes(self, item_bytes: float, experts: float | None = None) -> float:
        """Bytes of all parameters, those that are not quantised at so many each.

        Args:
          experts: as if each layer that has experts had so many; None for as many as there are.
        """
        count = experts if experts is not None else self.experts.count if self.experts else 0
        narrower = [
            matrices * (self.quantization.matrix_bytes(inputs, outputs) - inputs * outputs * item_bytes)
            for matrices, inputs, outputs in self._quantised(count).values()
            if self.quantization
        ]
        return self.params_with(count) * item_bytes + sum(narrower)

    def _quantised(self, experts: float) -> dict[str, tuple[float, int, int]]:
        """Of each kind of matrices that is quantised: how many there are, their inputs and outputs."""
        if self.quantization is None:
            return {}
        q_width, dense = self.heads * self.head_dim, len(self.dense_layers)
        sizes: dict[str, tuple[float, int, int]] = {
            "qkv": (self.layers, self.width, q_width + 2 * self.kv_heads * self.head_dim),
            "o": (self.layers, q_width, self.width),
            "gate_up": (dense, self.width, 2 * self.ffn),
            "up": (dense, self.width, self.ffn),
            "down": (dense, self.ffn, self.width),
        }
        if self.experts:
            mixtures, ffn, shared = len(self.experts.layers), self.experts.ffn, self.experts.shared_ffn
            sizes["expert_gate_up"], sizes["expert_down"] = (
                (mixtures * experts, *size) for size in ((self.width, 2 * ffn), (ffn, self.width))
            )
            sizes["shared_gate_up"], sizes["shared_down"] = (mixtures, self.width, 2 * shared), (mixtures, shared, self.width)
        return {kind: sizes[kind] for kind in self.quantization.kinds}

    def _require_groups(self, kind: str, inputs: int) -> None:
        assert self.quantization
        if self.quantization.group is not None and inputs % self.quantization.group:
            raise ConfigError(
                f"quantised matrices must divide into groups of {self.quantization.group} inputs; {kind} has {inputs}",
                field="quantization_config",
            )

    def share(self, tp: int) -> "ModelSpec":
        """The model that one of tp devices computes; the last ones' vocabulary is padded if it does not go round.

        Raises:
          ConfigError: the model does not split into tp.
        """
        self.require_split(tp)
        kv_heads = self.kv_heads if self.latent else self.kv_heads // tp
        parts = {"heads": self.heads // tp, "kv_heads": kv_heads, "ffn": self.ffn // tp, "vocab": -(-self.vocab // tp)}
        return replace(self, **parts, experts=self.experts and self.experts.share(tp))

    @property
    def split_sizes(self) -> dict[str, int]:
        """What devices share out in equal parts, as config.json calls it: the kv heads, of which query heads are a multiple, then FFNs.
        Each has all of a latent."""
        sizes = {"num_attention_heads": self.heads} if self.latent else {"num_key_value_heads": self.kv_heads}
        if self.dense_layers:
            sizes["intermediate_size"] = self.ffn
        if self.experts:
            sizes["intermediate_size of each expert"] = self.experts.ffn
        if self.experts and self.experts.shared_ffn:
            sizes["intermediate_size of the shared expert"] = self.experts.shared_ffn
        if self.quantization and self.quantization.group:
            group, matrices = self.quantization.group, self._quantised(0)
            by_inputs = {kind: matrices[kind][1] for kind in matrices if kind == "o" or kind.endswith("down")}
            sizes |= {f"groups of {group} inputs of {kind}": inputs // group for kind, inputs in by_inputs.items()}
        return sizes

    def splits(self, tp: int) -> bool:
        """Whether tp devices can have equal shares."""
        return all(size % tp == 0 for size in self.split_sizes.values())

    def require_split(self, tp: int) -> None:
        """
        Raises:
          ConfigError: the model does not split into tp, with what stands against it.
        """
        for field, size in self.split_sizes.items():
            if size % tp:
                raise ConfigError(f"tensor_parallel_size must be a divisor of {field}={size}, got {tp}", field="tensor_parallel_size")
