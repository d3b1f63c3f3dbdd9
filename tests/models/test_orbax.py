"""Orbax folders: written and read share by share, onto any number of devices."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import save_file

from muxjax.model_spec import ModelSpec
from muxjax.models.checkpoint import PARAMS, HeldWeights
from muxjax.models.convert import convert
from muxjax.models.decoder import param_shapes
from muxjax.models.orbax_io import OrbaxFolder, save
from muxjax.models.safetensors_io import SINGLE
from muxjax.models.sharding import Devices
from muxjax.models.shares import WHOLE, Share, grain_shape, part
from muxjax.models.tree import flat
from muxjax.models.weights import dummy, load
from muxjax.specs.config import to_hf_config
from tests.models.golden import seeded_tensors
from tests.models.test_sharding import MIXTURES, SPEC

TREE = dummy(SPEC)
WIDE = dataclasses.replace(SPEC, width=256, ffn=512, head_dim=32, vocab=1024, out_bias=False, mlp_bias=False, qk_norm=None)


def write(folder: Path, spec: ModelSpec, tree) -> Path:
    save(folder, HeldWeights(tree, spec), spec, lambda _: None)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("orbax"), SPEC, TREE)


def read_bytes(action) -> int:
    """Bytes that this process asks the files for meanwhile."""

    def so_far() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = so_far()
    action()
    return so_far() - before


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_every_share_is_read_as_it_is_cut_from_the_whole(folder, tp):
    """Also of a vocabulary that does not go round, and of matrices side by side."""
    stored = OrbaxFolder(folder, SPEC)
    for path, whole in flat(TREE).items():
        for share in Share.each(tp):
            read = stored.read(path, share, advance=lambda _: None)
            np.testing.assert_array_equal(read, part(path, np.asarray(whole), SPEC, share), path)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_a_folder_goes_onto_any_mesh(folder, tp):
    devices = Devices.first(tp)
    jax.tree.map(np.testing.assert_array_equal, load(folder, SPEC, devices, progress=False), dummy(SPEC, devices))


@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize("writers", [0, 1, 2])
def test_what_plain_orbax_wrote_is_read_too(tmp_path, writers, tp):
    """An array a chunk, from the host, as muxjax once did; or the arrays of devices, in their layout."""
    tree = dummy(SPEC, Devices.first(writers)) if writers else jax.tree.map(np.asarray, TREE)
    tree = tree | {"embed": np.asarray(TREE["embed"]), "head": np.asarray(TREE["head"])}  # without padding
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / PARAMS, tree if writers != 2 else jax.tree.map(_relaid, tree, TREE))
    devices = Devices.first(tp)
    jax.tree.map(np.testing.assert_array_equal, load(tmp_path, SPEC, devices, progress=False), dummy(SPEC, devices))


def _relaid(shared_out, whole) -> jax.Array | np.ndarray:
    """The whole as it stands, over the devices of an array of parts."""
    return jax.device_put(np.asarray(whole), shared_out.sharding) if isinstance(shared_out, jax.Array) else shared_out


def test_plain_orbax_reads_what_is_written(folder):
    with ocp.StandardCheckpointer() as checkpointer:
        jax.tree.map(np.testing.assert_array_equal, checkpointer.restore(folder / PARAMS), TREE)


@pytest.mark.parametrize("path", ["layers.qkv", "layers.gate_up", "layers.down", "head"])
def test_a_share_is_read_without_the_others(tmp_path, path):
    stored = OrbaxFolder(write(tmp_path, WIDE, dummy(WIDE)), WIDE)
    whole = read_bytes(lambda: stored.read(path, WHOLE, advance=lambda _: None))
    for share in Share.each(4):
        part_bytes = read_bytes(lambda share=share: stored.read(path, share, advance=lambda _: None))
        assert 0.2 * whole < part_bytes < 0.3 * whole


def test_chunks_are_of_one_layer_and_one_share():
    spec = dataclasses.replace(SPEC, heads=16, kv_heads=8, ffn=48, layers=3, windows=(None,) * 3)
    chunks = {path: grain_shape(path, leaf.shape, spec, 8) for path, leaf in flat(param_shapes(spec)).items()}
    assert chunks["layers.qkv"] == (1, 16, 8)  # a kv head, which is half of what a share has of q
    assert (chunks["layers.gate_up"], chunks["layers.down"]) == ((1, 16, 6), (1, 6, 16))
    assert (chunks["embed"], chunks["head"], chunks["layers.attn_norm"]) == ((6, 16), (16, 6), (3, 16))


def test_chunks_of_experts_are_of_one_layer_and_one_share_too():
    spec = dataclasses.replace(SPEC, kv_heads=8, heads=8, **MIXTURES["no layer without"])
    chunks = {path: grain_shape(path, leaf.shape, spec, 8) for path, leaf in flat(param_shapes(spec)).items()}
    assert (chunks["layers.expert_gate_up"], chunks["layers.expert_down"]) == ((1, 3, 16, 3), (1, 3, 3, 16))


def test_conversion_holds_one_share_of_one_array(tmp_path):
    """Numpy's memory is counted; TensorStore holds chunks of its own while it compresses them."""
    source = tmp_path / "hf"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(to_hf_config(WIDE)))
    save_file(seeded_tensors(WIDE, 0), source / SINGLE)
    largest = max(leaf.size * 4 for leaf in flat(param_shapes(WIDE)).values())
    convert(source, tmp_path / "first", progress=False)  # what is imported and made once is there by now
    tracemalloc.start()
    convert(source, tmp_path / "second", progress=False)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert largest / 4 < peak_bytes < largest


@pytest.mark.parametrize("form", ["hf", "orbax"])
def test_the_host_holds_one_part_beside_what_the_devices_do(tmp_path, form):
    """A device's memory is the host's here, and is counted with it."""
    source = tmp_path / "hf"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(to_hf_config(WIDE)))
    save_file(seeded_tensors(WIDE, 0), source / SINGLE)
    convert(source, tmp_path / "orbax", progress=False)
    sizes = [leaf.size * 4 for leaf in flat(param_shapes(WIDE)).values()]
    load(tmp_path / form, WIDE, Devices.first(2), progress=False)
    tracemalloc.start()
    load(tmp_path / form, WIDE, Devices.first(2), progress=False)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < sum(sizes) + 0.6 * max(sizes)
