"""Roofline: the cost of a step on a mesh by the model's shape, with what real kernels leave of a chip's speed.

Matrix products overlap arithmetic with the reading of weights. Attention has kernels of its own between them, which overlap the arithmetic
of no product: they are a roofline for themselves, and come on top.

Sources: docs/results/step-profile, where products and attention of a decode add up to the step; measured steps of both chips, against
which `tests/cost/test_roofline.py` holds the largest error.
"""

from dataclasses import dataclass

import numpy as np

from muxjax.cost.chip import MeshSpec
from muxjax.model_spec import ModelSpec

ELEMENT_BYTES = 2
"""Activations are bf16, as are weights and KV unless the mesh says otherwise; products of narrower weights are as fast as of bf16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Seconds of one step alone on its mesh.

    Args:
      compute_s, memory_s: of the products' arithmetic and of reading weights, each at the speed that whole steps reach; they overlap.
      attention_s: between the products.
      overhead_s: launches and all-reduces on top. Others can use the device meanwhile.
      layers: of the model, each of about as many kernels as another.
    """

    compute_s: float
    memory_s: float
    overhead_s: float
    attention_s: float = 0.0
    layers: int = 1

    @property
    def total_s(self) -> float:
        return max(self.compute_s, self.memory_s) + self.attention_s + self.overhead_s

    @property
    def waits_for_memory(self) -> bool:
        """Its products leave multiprocessors without work."""
        return self.memory_s >= self.compute_s

    def times(self, factor: float) -> "StepCost":
        """The same mix, so many times as long."""
        return StepCost(
            compute_s=self.compute_s * factor,
            memory_s=self.memory_s * factor,
            attention_s=self.attention_s * factor,
            overhead_s=self.overhead_s * factor,
            layers=self.layers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Arithmetic and reading that a step cannot do without, on one device.

    Args:
      product_flops, weight_bytes: of the matrix products.
      attention_flops, kv_bytes: of attention, which reads the KV of the batch once.
    """

    product_flops: float
    weight_bytes: float
    attention_flops: float
    kv_bytes: float

    @property
    def flops(self) -> float:
        return self.product_flops + self.attention_flops

    @property
    def read_bytes(self) -> float:
        return self.weight_bytes + self.kv_bytes

    def floor_s(self, *, flops_per_s: float, bytes_per_s: float) -> float:
        """Seconds below which no step can be at those rates, were all arithmetic to overlap all reading."""
        return max(self.flops / flops_per_s, self.read_bytes / bytes_per_s)


def prefill(spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> StepCost:
    """Cost of a step of so many new tokens, of one prompt or several.

    Args:
      context: positions that a new token attends to, in the mean; see `mean_context`.
    Raises:
      ConfigError: the model does not split into mesh.tp.
    """
    return _cost(spec, mesh, tokens, prefill_work(spec, mesh, tokens, context))


def decode(spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> StepCost:
    """Cost of one token for each of a batch: the weights, of experts those that are reached, and all its context are read once.

    Args:
      context_tokens: summed over the batch.
    Raises:
      ConfigError: the model does not split into mesh.tp.
    """
    return _cost(spec, mesh, batch, decode_work(spec, mesh, batch, context_tokens))


def mixed(spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float, batch: int, context_tokens: int) -> StepCost:
    """Cost of the work of `prefill` and `decode` in one step: the weights are read once.

    Raises:
      ConfigError: the model does not split into mesh.tp.
    """
    return _cost(spec, mesh, tokens + batch, mixed_work(spec, mesh, tokens, context, batch, context_tokens))


def prefill_work(spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> Work:
    """Work of `prefill`, with the head for one row."""
    return _work(spec, mesh, tokens=tokens, logits=1, pairs=tokens * context, kv_tokens=tokens + context)


def decode_work(spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> Work:
    """Work of `decode`."""
    return _work(spec, mesh, tokens=batch, logits=batch, pairs=context_tokens, kv_tokens=context_tokens)


def mixed_work(spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float, batch: int, context_tokens: int) -> Work:
    """Work of `mixed`."""
    pairs, kv_tokens = tokens * context + context_tokens, tokens + context + context_tokens
    return _work(spec, mesh, tokens=tokens + batch, logits=1 + batch, pairs=pairs, kv_tokens=kv_tokens)


def mean_context(starts: np.ndarray, counts: np.ndarray) -> float:
    """Positions, itself included, that a new token attends to in the mean, when row b has counts[b] after starts[b] cached ones."""
    return float((counts * (starts + (counts + 1) / 2)).sum() / counts.sum())


def kv_bytes_per_token(spec: ModelSpec, mesh: MeshSpec) -> int:
    """K and V of one token on one device.

    Raises:
      ConfigError: the model does not split into mesh.tp.
    """
    return spec.layers * spec.share(mesh.tp).kv_elements * mesh.bytes_per_kv


def weight_bytes(spec: ModelSpec, mesh: MeshSpec) -> int:
    """Weights on one device."""
    return int(spec.weight_bytes(mesh.bytes_per_weight)) // mesh.tp


def experts_reached(spec: ModelSpec, tokens: int) -> float:
    """Experts of a layer that a step of so many tokens reads, in the mean, if every token chose its own at random; 0 without experts."""
    if spec.experts is None:
        return 0.0
    count, per_token = spec.experts.count, spec.experts.per_token
    return count * (1 - (1 - per_token / count) ** tokens)


def _work(spec: ModelSpec, mesh: MeshSpec, *, tokens: int, logits: int, pairs: float, kv_tokens: float) -> Work:
    """Work of a step that multiplies `tokens` rows by the layers and `logits` rows by the head, scores so many query-key pairs a head and
    layer, and reads or writes the KV of kv_tokens."""
    head = spec.vocab * spec.width
    heads = head * (1 if spec.tied else 2)
    read_bytes = spec.weight_bytes(mesh.bytes_per_weight, experts_reached(spec, tokens)) - (heads - head) * mesh.bytes_per_weight
    return Work(
        product_flops=2 * ((spec.active_params - heads) * tokens + head * logits) / mesh.tp,
        weight_bytes=int(read_bytes) // mesh.tp,
        attention_flops=4 * spec.layers * spec.heads * spec.head_dim * pairs / mesh.tp,
        kv_bytes=kv_bytes_per_token(spec, mesh) * kv_tokens,
    )


def _cost(spec: ModelSpec, mesh: MeshSpec, tokens: int, work: Work) -> StepCost:
    chip = mesh.chip
    flops_per_s, bytes_per_s = chip.flops_per_s * chip.compute_frac, chip.memory_bytes_per_s * chip.memory_frac
    return StepCost(
        compute_s=work.product_flops / flops_per_s,
        memory_s=work.weight_bytes / bytes_per_s,
        attention_s=max(work.attention_flops / flops_per_s, work.kv_bytes / bytes_per_s),
        overhead_s=spec.layers * (chip.launch_s + 2 * _reduce_s(spec, mesh, tokens)),
        layers=spec.layers,
    )


def _reduce_s(spec: ModelSpec, mesh: MeshSpec, tokens: int) -> float:
    """Seconds of one all-reduce (a ring) of the activations; a layer has two."""
    if mesh.tp == 1:
        return 0.0
    sent_bytes = 2 * (mesh.tp - 1) / mesh.tp * tokens * spec.width * ELEMENT_BYTES
    return mesh.chip.reduce_s + sent_bytes / mesh.chip.link_bytes_per_s


@dataclass(frozen=True, slots=True)
class Roofline:
    """Cost model of any shape on any chip, measured or not."""

    def prefill_s(self, spec: ModelSpec, mesh: MeshSpec, tokens: int, context: float) -> float:
        return prefill(spec, mesh, tokens, context).total_s

    def decode_s(self, spec: ModelSpec, mesh: MeshSpec, batch: int, context_tokens: int) -> float:
        return decode(spec, mesh, batch, context_tokens).total_s
