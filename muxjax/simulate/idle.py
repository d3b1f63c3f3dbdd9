"""Idle meshes: what a request takes alone, by which objectives are scaled."""

from muxjax.cost import roofline
from muxjax.cost.chip import Chip, MeshSpec
from muxjax.types import ModelSpec
from muxjax.workload.metrics import Alone


def least_mesh(spec: ModelSpec, chip: Chip, device_bytes: int) -> MeshSpec:
    """The mesh of the least degree, a power of two, whose devices have room for the weights."""
    tp = 1
    while roofline.weight_bytes(spec, MeshSpec(chip=chip, tp=tp)) > device_bytes:
        tp *= 2
    return MeshSpec(chip=chip, tp=tp)


def alone(spec: ModelSpec, mesh: MeshSpec, prompt_tokens: int, context: int) -> Alone:
    """Seconds of a request on the mesh.

    Args:
      context: positions of its sequence, in the mean of its decodes.
    """
    return Alone(
        prefill_s=roofline.prefill(spec, mesh, prompt_tokens, (prompt_tokens + 1) / 2).total_s,
        decode_s=roofline.decode(spec, mesh, 1, context).total_s,
    )
