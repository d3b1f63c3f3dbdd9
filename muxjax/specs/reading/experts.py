"""Which layers have experts, and how many."""

from collections.abc import Mapping
from typing import Any

from muxjax.model_spec import ModelSpec
from muxjax.specs.fields import MOST_SIZE, Fields

MOST_EXPERTS = 4096
"""Of a layer: some ten times the most that is published."""


def expert_count(fields: Fields, *names: str) -> int:
    """Of the names under which transformers takes it; those that a file has must agree.

    Raises:
      ConfigError: they do not, or none is there.
    """
    first, *others = [name for name in names if fields.get(name) is not None] or names[:1]
    count = fields.integer(first, most=MOST_EXPERTS)
    for name in others:
        if fields.integer(name) != count:
            raise fields.wrong(name, fields.get(name), f"the same as {first}={count}")
    return count


def whole_number(fields: Fields, name: str, default: int) -> int:
    """A number of layers or a width, which may be 0.

    Raises:
      ConfigError: it is none.
    """
    value = fields.get(name, default)
    return 0 if value == 0 and not isinstance(value, bool) else fields.integer(name, default, most=MOST_SIZE)


def sparse_layers(fields: Fields, layers: int) -> tuple[int, ...]:
    """Layers that have experts: each so many, but for those that a list names."""
    step, dense = fields.integer("decoder_sparse_step", 1), fields.get("mlp_only_layers", [])
    if not isinstance(dense, list) or not all(isinstance(layer, int) and not isinstance(layer, bool) for layer in dense):
        raise fields.wrong("mlp_only_layers", dense, "a list of layers")
    return tuple(layer for layer in range(layers) if (layer + 1) % step == 0 and layer not in dense)


def written_experts(spec: ModelSpec, names: Mapping[str, str]) -> dict[str, Any]:
    """Fields by which a file says what experts a spec has, by what `Experts` calls them; none of a spec without experts."""
    return {field: getattr(spec.experts, name) for field, name in names.items()} if spec.experts else {}
