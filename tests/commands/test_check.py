"""`muxjax serve --check` reads all that a start would, tells what it takes, and starts nothing."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from muxjax.__main__ import main
from muxjax.cluster.plan import one_unit, unit_specs
from muxjax.commands.check import Device, attached, named, planned, unit_lines
from muxjax.demo.run import shipped
from muxjax.errors import ConfigError
from muxjax.placement.plan_file import write_placement
from muxjax.placement.problem import Placement
from muxjax.server.config import load_options
from muxjax.specs.config import to_hf_config
from muxjax.specs.published import BY_NAME
from tests.cluster.test_serve_placement import placement
from tests.commands.wrong import fails

GIB = 2**30
FARM = str(shipped()[0])


def lines(device: Device, *sources: str, **flags) -> list[str]:
    unit = load_options(sources, flags).unit
    return list(unit_lines(unit_specs(one_unit(unit), unit)[0], device))


@pytest.fixture
def big(folder) -> str:
    """The folder of an 8B without its weights."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096}
    config |= {"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336}
    config |= {"max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16"}
    (folder / "big").mkdir()
    (folder / "big/config.json").write_text(json.dumps(config))
    return str(folder / "big")


def test_a_good_configuration_is_told_with_its_memory_and_nothing_is_started(capsys):
    assert main(["serve", FARM, "--check", "--port", "9"]) == 0
    said = capsys.readouterr().out
    assert "farm: 431 k parameters" in said and "cache 1 GiB" in said
    assert "http://127.0.0.1:9/v1, open to everybody" in said and said.endswith("nothing was started\n")


def test_the_plan_of_a_gpu_is_weights_tables_and_what_they_leave(big):
    head, model, memory = lines(named("h200"), f"a={big}", load_format="dummy")
    assert head == "unit 0: 1 model on H200"
    assert model.startswith("  a: 8.03 B parameters, bfloat16, 1") and "up to 8192 tokens" in model
    limit = int(141e9 * 0.9)
    cache = (int(limit * 0.95) - 8_030_261_248 * 2) // GIB
    assert f"cache {cache - 1} GiB" in memory or f"cache {cache} GiB" in memory
    assert f"of {limit / GIB:.4g} GiB for steps" in memory


def test_a_draft_model_of_other_tokens_is_refused_as_a_start_would():
    others = [str(folder) for folder in shipped()[1:]]
    with pytest.raises(ConfigError, match=r"farm cannot draft for \w+: \d+ of their tokens differ"):
        lines(named("h200"), FARM, *others, speculative_config={"method": "draft_model", "model": "farm"})


def test_matrices_in_fp8_take_half_of_their_memory(big):
    _, model, _ = lines(named("h200"), f"a={big}", load_format="dummy", quantization="fp8")
    assert "8.03 B parameters, bfloat16, matrices in FP8, 8.494 GiB of a device" in model


def test_places_for_adapters_are_held_against_the_memory_too(big):
    _, model, memory = lines(named("h200"), f"a={big}", load_format="dummy", max_loras="64", max_lora_rank="64")
    assert model.endswith("places for 64 adapters of rank 64")
    before = lines(named("h200"), f"a={big}", load_format="dummy")[2]
    assert memory.partition(";")[0] != before.partition(";")[0]


def test_a_mixture_takes_the_memory_of_all_experts_and_is_told_with_what_computes_a_token(folder):
    (folder / "mixture").mkdir()
    (folder / "mixture/config.json").write_text(json.dumps(to_hf_config(BY_NAME["qwen3-30b-a3b"])))
    _, model, memory = lines(named("h200"), f"a={folder / 'mixture'}", load_format="dummy")
    assert model.startswith("  a: 30.5 B parameters, 3.35 B active, bfloat16, 56.9") and "weights and tables 56.9" in memory


def test_a_cache_of_a_given_size_is_held_against_the_memory(big):
    assert "cache 40 GiB" in lines(named("H100"), f"a={big}", load_format="dummy", kv_cache_size="40GiB")[2]
    with pytest.raises(ConfigError, match=r"of weights and tables and a cache of 60 GiB do not fit into the 67\.06 GiB"):
        lines(named("H100"), f"a={big}", load_format="dummy", kv_cache_size="60GiB")
    with pytest.raises(ConfigError, match="do not fit into the 10 GiB"):
        lines(named("H100"), f"a={big}", load_format="dummy", memory_size="10GiB")


def test_devices_share_a_model_out(big):
    def held(**flags) -> float:
        return float(lines(named("h100"), f"a={big}", load_format="dummy", **flags)[1].partition("bfloat16, ")[2].split()[0])

    assert held(tensor_parallel_size="2") == pytest.approx(held() / 2, rel=0.05)


def test_where_nobody_knows_the_memory_the_cache_is_not_told(big):
    unknown = Device(name="something", memory_bytes=None)
    assert lines(unknown, f"a={big}", load_format="dummy")[2].endswith("how much the cache gets is not known here")
    assert "cache 2 GiB" in lines(unknown, f"a={big}", load_format="dummy", kv_cache_size="2GiB")[2]


def test_weights_that_are_not_there_or_not_those_of_the_configuration_are_found(folder, capsys, monkeypatch):
    assert "model/tokenizer.json is missing" in fails(capsys, "serve", "model", "--check")
    (folder / "model/tokenizer.json").write_bytes((shipped()[0] / "tokenizer.json").read_bytes())
    assert "holds no weights" in fails(capsys, "serve", "model", "--check")
    (folder / "model/model.safetensors").write_bytes((shipped()[0] / "model.safetensors").read_bytes())
    assert "tensors" in fails(capsys, "serve", "model", "--check")


def test_the_units_of_a_placement_are_told_one_by_one(tmp_path, capsys):
    write_placement(placement(("farm", "sea"), ("forest",)), tmp_path / "placement.json")
    assert main(["serve", *map(str, shipped()), "--check", "--placement", str(tmp_path / "placement.json")]) == 0
    said = capsys.readouterr().out
    assert "unit 0: 2 models" in said and "unit 1: 1 model on" in said


def test_a_placement_for_another_chip_is_told_of_that_unless_one_is_named(tmp_path, capsys):
    write_placement(replace(placement(("farm",)), chips=("A100-80GB",)), tmp_path / "placement.json")
    asked = ["serve", str(shipped()[0]), "--check", "--placement", str(tmp_path / "placement.json")]
    for flags, name, memory in (([], "A100-80GB", 80), (["--chip", "h200"], "H200", 141)):
        assert main([*asked, *flags]) == 0
        said = capsys.readouterr().out
        assert f"unit 0: 1 model on {name}\n" in said
        used = float(re.search(r"of ([0-9.]+) GiB for steps", said)[1])
        assert 0.8 * memory < used < memory


def test_a_chip_that_nobody_knows_and_one_without_a_check_are_refused(own_folder, capsys):
    assert "chip must be one of a100, h100, h200, b200, got 'x'" in fails(capsys, "serve", FARM, "--check", "--chip", "x")
    assert "chip must be left out without --check" in fails(capsys, "serve", FARM, "--chip", "h200")


def test_what_spans_lack_is_told(own_folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    assert "pip install 'muxjax[otel]'" in fails(capsys, "serve", FARM, "--check", "--otel", "true")


def test_a_gpu_is_asked_of_the_driver(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho '5, 81559, NVIDIA H100 80GB HBM3'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert attached({"JAX_PLATFORMS": "cuda"}) == Device(name="NVIDIA H100 80GB HBM3", memory_bytes=81559 * 2**20)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert attached({"JAX_PLATFORMS": "cuda"}).memory_bytes is None
    assert attached({"JAX_PLATFORMS": "cpu"}).is_cpu


def test_no_device_is_touched():
    """Where JAX is told to use a GPU that is not there, it would fail."""
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": "0"}
    command = [sys.executable, "-m", "muxjax", "serve", FARM, "--check", "--chip", "h200"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_model_is_told_as_its_placement_has_it(tmp_path, capsys):
    units = placement(("farm", "sea")).units
    held = tuple(replace(placed, weights="fp8", cache="fp8") if placed.model == "farm" else placed for placed in units[0].members)
    write_placement(Placement(units=(replace(units[0], members=held),)), tmp_path / "placement.json")
    assert main(["serve", *map(str, shipped()), "--check", "--placement", str(tmp_path / "placement.json")]) == 0
    farm, sea = re.findall(r"  (?:farm|sea): .*", capsys.readouterr().out)
    assert "matrices in FP8, FP8 cache" in farm and "FP8" not in sea


def test_a_problem_is_solved_for_models_as_their_options_have_them(big, folder, capsys):
    """In 16 bits the two do not fit on the device, beside each other."""
    (folder / "problem.yaml").write_text(
        "cluster: {chip: small, nodes: 1, devices_per_node: 1}\nchips: {small: {like: H100, memory_bytes: 32GiB}}\nmodels:\n"
        f"  - {{name: a, path: {big}, rate: 0.1}}\n  - {{name: b, path: {big}, rate: 0.1}}\n"
    )
    models = [{"name": name, "path": big, "load_format": "dummy", "kv_cache_dtype": "fp8"} for name in "ab"]
    (folder / "config.yaml").write_text(json.dumps({"models": models}))
    assert "need" in fails(capsys, "serve", "config.yaml", "--check", "--problem", "problem.yaml", "--chip", "h100")
    (folder / "config.yaml").write_text(json.dumps({"models": [model | {"quantization": "fp8"} for model in models]}))
    options = load_options(["config.yaml"], {"problem": folder / "problem.yaml"})
    (unit,) = unit_specs(planned(options), options.unit)
    assert unit.models == ("a", "b")
