"""Idle meshes: what a request takes alone, by which objectives are scaled."""

from dataclasses import replace

from muxjax.cost import roofline
from muxjax.cost.chip import MeshSpec
from muxjax.model_spec import ModelSpec
from muxjax.workload.metrics import Alone


def least_mesh(spec: ModelSpec, mesh: MeshSpec, device_bytes: int) -> MeshSpec:
    """The mesh of the least degree, a power of two, whose devices have room for the weights.

    Args:
      mesh: one such device.
    """
    while roofline.weight_bytes(spec, mesh) > device_bytes:
        mesh = replace(mesh, tp=2 * mesh.tp)
    return mesh


def alone(spec: ModelSpec, mesh: MeshSpec, prompt_tokens: int, context: int) -> Alone:
    """Seconds of a request on the mesh.

    Args:
      context: positions of its sequence, in the mean of its decodes.
    """
    return Alone(
        prefill_s=roofline.prefill(spec, mesh, prompt_tokens, (prompt_tokens + 1) / 2).total_s,
        decode_s=roofline.decode(spec, mesh, 1, context).total_s,
    )
