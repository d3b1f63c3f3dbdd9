"""What is decided of a Ray cluster without one."""

import sys
from dataclasses import replace

import pytest

from muxjax.cluster.on_ray.connect import connect
from muxjax.cluster.on_ray.nodes import CPU, GPU, Node, bundle, device_kind, environment, lacking, nodes
from muxjax.cluster.options import ClusterOptions
from muxjax.errors import ConfigError
from tests.cluster.kit import unit


def told(*resources, alive=True):
    return [{"NodeManagerAddress": f"h{i}", "Resources": each, "Alive": alive} for i, each in enumerate(resources)]


def test_units_get_gpus_where_there_are_any_unless_jax_is_told_otherwise():
    mixed, plain = told({"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}), told({"CPU": 8.0})
    assert [device_kind(mixed, {}), device_kind(plain, {})] == [GPU, CPU]
    assert [device_kind(mixed, {"JAX_PLATFORMS": "cpu"}), device_kind(plain, {"JAX_PLATFORMS": "cuda,cpu"})] == [CPU, GPU]
    assert device_kind(told({"GPU": 2.0}, alive=False), {}) == CPU


def test_only_living_nodes_count():
    assert nodes([*told({"GPU": 2.0, "CPU": 8.0}), *told({"GPU": 8.0}, alive=False)], GPU) == (Node("h0", 2),)


@pytest.mark.parametrize(
    ("devices", "trouble"),
    [
        ((2, 2), ""),
        ((3,), "a unit needs 3 GPUs on one node, and the largest node of the cluster has 2"),
        ((2, 2, 1), "the placement needs 5 GPUs, and the cluster has 4"),
    ],
)
def test_what_speaks_against_a_placement(devices, trouble):
    specs = [replace(unit(str(i), "a"), devices=tuple(range(count))) for i, count in enumerate(devices)]
    assert lacking(specs, [Node("h0", 2), Node("h1", 2)], GPU) == trouble
    assert "largest node of the cluster has 0" in lacking(specs, [], GPU)


def test_units_are_on_nodes_of_their_chip():
    there = nodes(told({"GPU": 2.0, "accelerator_type:H100": 1.0}, {"GPU": 1.0, "accelerator_type:H200": 1.0}), GPU)
    one, two = (replace(unit(chip, "a"), devices=(0, 1), chip=chip) for chip in ("H100", "H200"))
    assert bundle(one, there, GPU) == {GPU: 2, "accelerator_type:H100": 0.001}
    assert lacking([one], there, GPU) == ""
    assert lacking([one, two], there, GPU) == "a unit needs 2 H200 GPUs on one node, and the largest node of the cluster has 1"
    assert bundle(replace(one, chip=""), there, GPU) == bundle(one, [Node("h0", 2)], GPU) == {GPU: 2}


def test_a_worker_gets_what_jax_and_xla_are_told_but_no_keys_and_no_gpus_of_another_host():
    outer = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_LOG_COMPILES": "1", "MUXJAX_API_KEY": "k", "CUDA_VISIBLE_DEVICES": "3"}
    assert environment(GPU, 2, outer) == {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_LOG_COMPILES": "1"}
    assert environment(CPU, 2, {"XLA_FLAGS": "--a --xla_force_host_platform_device_count=8"}) == {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--a --xla_force_host_platform_device_count=2",
    }


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'muxjax\[ray\]'"):
        connect("auto")


@pytest.mark.parametrize("address", ["auto", "h:6379", "10.0.0.1:6379"])
def test_an_address_of_a_cluster(address, tmp_path):
    assert ClusterOptions(placement=tmp_path, ray=address).ray == address


@pytest.mark.parametrize("address", ["", "models.yaml", "ray://h:1", ":1", "h:", "h:0", "h:65536", "h:" + "9" * 5000, "h:٣"])
def test_what_is_no_address_of_a_cluster(address, tmp_path):
    with pytest.raises(ConfigError, match="ray must be auto or HOST:PORT"):
        ClusterOptions(placement=tmp_path, ray=address)


def test_options_that_do_not_go_with_ray(tmp_path):
    with pytest.raises(ConfigError, match="neither placement nor problem"):
        ClusterOptions(ray="auto")
    with pytest.raises(ConfigError, match="worker_dir must be left out"):
        ClusterOptions(ray="auto", placement=tmp_path, worker_dir=tmp_path)
