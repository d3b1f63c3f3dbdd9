"""LoRA adapters as a decoder sees them: beside the matrices of its layers, and each token's own."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax

from muxjax.models.lora.files import Pair

NO_PLACE = -1
"""Of a token that has no adapter."""

Pairs = dict[str, Pair]
"""By the kind of matrices that they are beside."""

LoraProduct = Callable[[jax.Array, jax.Array, tuple[jax.Array, ...], jax.Array], jax.Array]
"""x [T, I], a [J, A, R, I], b [A, R, O] for each of J, and each token's place among A: [T, O], what its adapter adds."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=("a_JARI", "b", "place_T"), meta_fields=("product",))
@dataclass(frozen=True, slots=True)
class LayerPair:
    """Adapters beside one matrix of a layer."""

    a_JARI: jax.Array
    b: tuple[jax.Array, ...]
    place_T: jax.Array
    product: LoraProduct

    def __call__(self, x_TI: jax.Array) -> jax.Array:
        """[T, O], what each token's own adds to x times the matrix; of a share of the inputs, its term of that sum."""
        return self.product(x_TI, self.a_JARI, self.b, self.place_T)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("pairs", "place_T"), meta_fields=("product",))
@dataclass(frozen=True, slots=True)
class Adapters:
    """Adapters as a decoder sees them.

    Args:
      place_T: of each token's, NO_PLACE for none.
      product: how they are multiplied by.
    """

    pairs: Pairs
    place_T: jax.Array
    product: LoraProduct

    def of_layer(self, layer: int) -> dict[str, LayerPair]:
        """What `layers.linear` finds beside that layer's matrices."""
        return {
            f"{kind}_lora": LayerPair(pair.a[layer], tuple(b[layer] for b in pair.b), self.place_T, self.product)
            for kind, pair in self.pairs.items()
        }
