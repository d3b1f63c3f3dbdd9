"""LoRA adapters as a decoder sees them: beside the matrices of its layers, and each token's own."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax

from muxjax.model_spec import ModelSpec
from muxjax.models.lora.files import Pair, matrices

NO_PLACE = -1
"""Of a token that has no adapter."""

Pairs = dict[str, Pair]
"""By the kind of matrices that they are beside."""

LoraProduct = Callable[[jax.Array, jax.Array, tuple[jax.Array, ...], jax.Array], jax.Array]
"""x [T, I], a [J, Z, W, I], b [Z, W, O] for each of J, and each token's place among Z: [T, O], what its adapter adds."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=("a_JZWI", "b", "place_T"), meta_fields=("product",))
@dataclass(frozen=True, slots=True)
class LayerPair:
    """Adapters beside one matrix of a layer."""

    a_JZWI: jax.Array
    b: tuple[jax.Array, ...]
    place_T: jax.Array
    product: LoraProduct

    def __call__(self, x_TI: jax.Array) -> jax.Array:
        """[T, O], what each token's own adds to x times the matrix; of a share of the inputs, its term of that sum."""
        return self.product(x_TI, self.a_JZWI, self.b, self.place_T)


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

    def of_layer(self, spec: ModelSpec, layer: int) -> dict[str, LayerPair]:
        """What `layers.linear` finds beside that layer's matrices."""
        return {
            f"{kind}_lora": self._beside(self.pairs[kind], tensor.layers.index(layer))
            for kind, tensor in matrices(spec).items()
            if layer in tensor.layers
        }

    def _beside(self, pair: Pair, at: int) -> LayerPair:
        return LayerPair(pair.a[at], tuple(b[at] for b in pair.b), self.place_T, self.product)
