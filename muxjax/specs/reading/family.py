"""What makes a family: names and defaults of its config.json, and what it says of the model beyond what all families do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import Fields

ROPE_TYPES: Mapping[str, str] = {kind: kind for kind in ("default", "linear", "llama3", "yarn", "dynamic", "longrope")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """
    Args:
      model_type, architecture: its names in config.json.
      variant: fields of a ModelSpec, from a config.json and the number of layers; raises ConfigError.
      written: the fields of config.json from which `variant` reads a spec's.
      defaults: of fields that a file lacks, where transformers has others for this family than for most.
      norm_eps: the field for that of norms.
      rope_theta: where a file has none.
      head_dim_field: the field for the size of heads, or of what is rotated of them.
      head_dim: where a file has none; None for the width over the heads.
      needs_kv_heads: a file must say how many; else each query head has its own.
      eos: the tokens that end an answer where no file of a model has a word of it.
      only: fields that it has no part for, and the values under which they ask for none; see `known_fields.ONLY`.
      reads: fields of that list that it has a part for.
      harmless: fields that it ignores whatever their value.
      rope_by_kind: layers with a window have a rotary embedding of their own.
      rope_types: kinds of rotary embedding by the family's names of them.
      grows_queries: its yarn says how much longer queries become beyond the original length.
    """

    model_type: str
    architecture: str
    variant: Callable[[Fields, int], dict[str, Any]]
    written: Callable[[ModelSpec], dict[str, Any]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    norm_eps: str = "rms_norm_eps"
    rope_theta: float = 10000.0
    head_dim_field: str = "head_dim"
    head_dim: int | None = None
    needs_kv_heads: bool = False
    eos: tuple[int, ...] = ()
    only: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()
    rope_by_kind: bool = False
    rope_types: Mapping[str, str] = field(default_factory=lambda: ROPE_TYPES)
    grows_queries: bool = False

    @property
    def bare(self) -> str:
        """The architecture of its decoder alone, as checkpoints for embeddings have it."""
        return self.architecture.replace("ForCausalLM", "Model")


def attention_biases(fields: Fields) -> dict[str, bool]:
    """Of a family whose `attention_bias` is one of all four projections."""
    has_bias = fields.flag("attention_bias")
    return {"qkv_bias": has_bias, "out_bias": has_bias}
