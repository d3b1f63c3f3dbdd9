"""The speed benches run, on anything, and their pages say what their lines say."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from scripts.bench_products import page as products_page

ROOT = Path(__file__).parents[2]
RATES = {"flops_per_s": 790e12, "bytes_per_s": 4.3e12}
STAMP = {"commit": "abc", "device": "NVIDIA H200", "versions": {"jax": "0.11.2"}, "seed": 0}


def run(*arguments: str, folder: Path, **variables: str) -> str:
    environment = os.environ | {"MUXJAX_RESULTS": str(folder), "JAX_PLATFORMS": "cpu"} | variables
    ran = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def line(section: str, model: str, **row) -> str:
    config = {"section": section, "model": model, "like_vllm": False}
    return json.dumps(STAMP | {"config": config, "values": RATES | {"rows": [row]}}) + "\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("results")
    (folder / "step-speed").mkdir()
    lines = [
        line("decode", "llama-3.1-8b", what="decode 1 x 1024", measured_s=4.0e-3, floor_s=3.5e-3, ratio=1.143),
        line("decode", "llama-3.1-8b", what="decode 32 x 576", measured_s=5.0e-3, floor_s=4.0e-3, ratio=1.25),
        line("prefill", "llama-3.1-8b", what="prefill 2048", measured_s=60e-3, floor_s=37e-3, ratio=0.62),
        line("vllm", "llama-3.1-8b in fp8", what="decode 32 x 576", measured_s=3.0e-3, floor_s=2.0e-3, ratio=1.5),
        line("prefill", "llama-3.1-8b in fp8", what="prefill 2048", measured_s=45e-3, floor_s=37e-3, ratio=0.82),
        line("idle", "llama-3.2-1b", what="idle 32 x 456", measured_s=2.0e-3, floor_s=1.9e-3, ratio=0.05),
        line("idle", "llama-3.1-8b", what="idle 32 x 456", measured_s=6.0e-3, floor_s=5.7e-3, ratio=0.05),
        line("offline", "llama-3.1-8b", what="offline 512 requests", measured_s=9.0, tokens=90_000, tokens_per_s=10_000.0, ratio=None),
        line("check", "llama-3.1-8b", what="check 4 x 24 tokens", regret=0.031, equal=0.96875, ratio=0.031),
    ]
    (folder / "step-speed" / "runs.jsonl").write_text("".join(lines))
    run("scripts.bench_step", "--page", folder=folder)
    return (folder / "step-speed" / "README.md").read_text()


@pytest.mark.parametrize(
    "expected",
    [
        "| llama-3.1-8b | decode 1 x 1024 | 4 ms | 3.5 ms | 1.14 of the floor | yes: at most 1.18 |",
        "| llama-3.1-8b | decode 32 x 576 | 5 ms | 4 ms | 1.25 of the floor |  |",
        "| llama-3.1-8b | prefill 2048 | 60 ms | 37 ms | 0.62 of the matmul rate | no: at least 0.72 |",
        "| llama-3.2-1b | idle 32 x 456 | 2 ms | 1.9 ms | 0.05 of the time idle | yes: at most 0.1 |",
        "| llama-3.1-8b | idle 32 x 456 | 6 ms | 5.7 ms | 0.05 of the time idle | no: at most 0.03 |",
        "| decode 32 x 576 | 5.00 ms | 5.72 ms | 1.14 |",
        "| prefill 2048 | 60.0 ms | 51.0 ms | 0.85 |",
        "| llama-3.1-8b | fp8 | decode 32 x 576 | 3 ms | 5 ms | 0.600 | yes: at most 0.7 |",
        "| llama-3.1-8b | fp8 | prefill 2048 | 45 ms | 60 ms | 0.750 | no: at most 0.65 |",
        "| offline 512 requests | 10,000 tokens/s | 9,720 tokens/s | 1.03 |",
        "96.9% are the best of the float32 dense forward, and none lies more than 0.031 standard deviations",
        "NVIDIA H200, JAX 0.11.2, commit abc: 790 TFLOP/s, 4.3 TB/s",
    ],
)
def test_the_page_of_steps_says_what_its_lines_say(page, expected):
    assert expected in page


@pytest.mark.parametrize("tp", [1, 2])
def test_the_steps_of_a_tiny_model_are_measured_and_its_greedy_tokens_are_right(tmp_path, tp):
    said = run("scripts.bench_step", "--tiny", "--tensor-parallel-size", str(tp), "--only", "decode", "check", "offline", folder=tmp_path)

    assert ("on 2 devices: " in said) == (tp == 2)
    assert "'what': 'decode 1 x 128'" in said
    assert "'equal': 1.0" in said
    assert "'what': 'offline 12 requests'" in said
    assert not list(tmp_path.iterdir())


def test_launches_of_several_models_are_measured(tmp_path):
    said = run("scripts.bench_launches", "--tiny", folder=tmp_path, XLA_FLAGS="--xla_cpu_enable_fast_math=false")
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| cpu")]
    ways = ["one alone", "4 in one lane", "4 in lanes", "4 in lanes, a thread each"]
    asked = product(ways, ["8 x 512", "32 x 512"], ["input and results", "nothing"])
    assert [row[2:5] for row in rows] == [[shape, way, moves] for way, shape, moves in asked]
    told = "XLA_FLAGS=--xla_cpu_enable_fast_math=false XLA_PYTHON_CLIENT_ALLOCATOR=cuda_async"
    assert {row[-1].removesuffix(" |") for row in rows} == {told}
    assert not list(tmp_path.iterdir())


def test_answers_with_drafts_are_measured_beside_those_without(tmp_path):
    said = run("scripts.bench_speculation", "--tiny", "--batches", "2", "--answer-tokens", "40", folder=tmp_path)
    rows = [line.strip("| ").split(" | ") for line in said.splitlines() if line.startswith("| 2 |")]
    assert [row[1] for row in rows] == ["0.5", "0.7", "0.9"] and {row[-1] for row in rows} == {"100%"}
    few, some, many = (float(row[-2]) for row in rows)
    assert 1 < few < some < many
    assert not list(tmp_path.iterdir())


def test_the_kernels_that_are_there_are_measured(tmp_path):
    said = run("scripts.bench_kernels", "--tiny", "--only", "decode", "write", "--kv-heads", "2", "--group", "2", folder=tmp_path)

    rows = [line.split(" | ") for line in said.splitlines() if line.startswith("| decode") or line.startswith("| write")]
    assert len(rows) == 5
    # bf16 on a CPU: 2.1e-2 at worst. A block of another sequence makes it about 1.
    assert all(float(row[9]) < (5e-2 if row[0] == "| decode" else 1e-9) for row in rows)
    assert not list(tmp_path.iterdir())


def serving_page(folder: Path, *, load_s: float, token_s: float, steady_s: float, idle: str) -> str:
    """Of a second start in 35 s, beside a step of 5 ms in the loop over so many rows."""
    start = {"ready_s": 35.0, "load_s": load_s, "compile_s": 20.0, "report": ["told"]}
    values = {"starts": [start, start], "kept_programs": [7, 9, 9], "tokens_per_s": 5000.0}
    values |= {"token_s": [token_s, token_s, 9e-3], "steady_token_s": steady_s}
    config = {"model": "llama-3.1-8b", "streams": 32, "prompt_tokens": 256, "output_tokens": 256}
    row = line("idle", "llama-3.1-8b", what=idle, measured_s=5e-3, floor_s=4.9e-3, ratio=0.02)
    for question, text in {"serving-speed": json.dumps(STAMP | {"config": config, "values": values}) + "\n", "step-speed": row}.items():
        (folder / question).mkdir()
        (folder / question / "runs.jsonl").write_text(text)
    run("scripts.bench_serving", "--page", folder=folder)
    return (folder / "serving-speed" / "README.md").read_text()


def test_the_page_of_serving_says_what_was_reached(tmp_path):
    text = serving_page(tmp_path, load_s=5.5, token_s=5.4e-3, steady_s=4.6e-3, idle="idle 32 x 456")

    assert "second start took 29.5 s beside loading the weights: the goal of 30 s is met" in text
    assert "| second | 35 s | 5.5 s | 29.5 s | 20 s | 0 |" in text
    assert "the median stream yes, while all streams decode yes" in text
    assert "| a stream over HTTP, median | 256 to 512 | 5.4 ms | 1.080 |" in text
    assert "| a stream over HTTP, worst | 256 to 512 | 9 ms | 1.800 |" in text
    assert "| a step in the loop, commit abc | mean 456 | 5 ms | 1 |" in text


def test_the_page_of_serving_says_what_was_just_missed(tmp_path):
    text = serving_page(tmp_path, load_s=4.5, token_s=5.6e-3, steady_s=4.4e-3, idle="idle 32 x 456")

    assert "second start took 30.5 s beside loading the weights: the goal of 30 s is missed" in text
    assert "the median stream no, while all streams decode no" in text


def test_streams_are_not_held_against_a_step_of_fewer_rows(tmp_path):
    text = serving_page(tmp_path, load_s=5.5, token_s=5.4e-3, steady_s=5.4e-3, idle="idle 3 x 456")

    assert "No step in the loop with as many rows has been measured" in text
    assert "mean 456" not in text


def test_a_tiny_model_is_served_twice_and_the_second_start_compiles_nothing(tmp_path):
    said = run("scripts.bench_serving", "--tiny", folder=tmp_path)

    starts = {row.split(" | ")[0]: row.rstrip(" |").split(" | ") for row in said.splitlines() if row.startswith(("| first", "| second"))}
    assert int(starts["| first"][-1]) > 3
    assert int(starts["| second"][-1]) == 0
    assert "4 streams of 16 tokens in and 64 out" in said
    assert not list(tmp_path.iterdir())


def test_products_are_measured_alone_and_beside_a_decode(tmp_path):
    said = run("scripts.bench_products", "--tiny", folder=tmp_path)

    assert "| llama-3.1-8b | 16 | down 128 x 64 |" in said
    assert "| cuBLAS | 1.00 |" in said and "| matrix | cuBLAS | 1 |" in said
    assert not list(tmp_path.iterdir())


def test_the_page_of_products_tells_rates_and_shares_of_what_its_lines_say():
    sizes = {"model": "llama-3.1-8b", "kind": "o", "tokens": 2048, "depth": 4096, "columns": 4096}
    speeds = {"product_s cuBLAS": 1e-4, "error cuBLAS": 1e-3, "product_s 112": 1.25e-4, "error 112": 2e-3}
    beside = {"share": "112", "prefill_alone_s": 11e-3, "prefill_s": 12.5e-3, "decode_alone_s": 5e-3, "decode_s": 10e-3}
    cublas = beside | {"share": "cuBLAS", "prefill_alone_s": 10e-3}
    values = {
        "products": {"rows": [sizes | speeds], "compile_s": {"cuBLAS": 0.5, "132": 1.5}},
        "beside": {"rows": [row | {"decode_p50_s": 9.9e-3, "decode_p99_s": 14e-3} for row in (cublas, beside)]},
    }
    said = products_page(STAMP | {"config": {"section": section}, "values": each} for section, each in values.items())

    assert "| llama-3.1-8b | 2048 | o 4096 x 4096 | 687 | 550 |" in said
    assert "cuBLAS 1.0e-03, 112 2.0e-03" in said and "cuBLAS 0.5 s, 132 1.5 s" in said
    assert "| 112 | 0.91 | 0.80 | 0.50 | 1.30 | 9.9 / 14.0 |" in said


def test_two_devices_are_measured_in_a_process_a_case(tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    said = run("scripts.bench_tensor_parallel", "--tiny", "--cases", "8b-2", folder=tmp_path, XLA_FLAGS=flags)
    assert "'decode': {'measured_s': " in said and "'prefill': {'measured_s': " in said
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_two_devices_holds_them_against_one_and_against_the_floor(tmp_path):
    steps = {"8b-1": (4.0e-3, 50e-3), "8b-2": (2.4e-3, 30e-3), "70b-2": (20e-3, 200e-3)}
    (tmp_path / "tensor-parallel").mkdir()
    for name, (decode_s, prefill_s) in steps.items():
        alone = {"sum_s": 9e-6, "sum_is": {"one_shot": 64}} if name != "8b-1" else {}
        points = {step: {"measured_s": s, "floor_s": s / 1.3} | alone for step, s in (("decode", decode_s), ("prefill", prefill_s))}
        sums = {
            step: {"one_shot": 65 if alone and step == "decode" else 0, "nccl": 65 if alone and step == "prefill" else 0} for step in points
        }
        record = STAMP | {"config": {"case": name}, "values": RATES | {"links": 18, "sums": sums, "points": points}}
        (tmp_path / "tensor-parallel" / f"{name}.jsonl").write_text(json.dumps(record) + "\n")
    page = run("scripts.bench_tensor_parallel", "--page", folder=tmp_path)
    assert "A decode of the 8B model takes 0.600 of its time on one device (the goal of 0.62 at most is met)." in page
    assert "A prefill of the 8B model takes 0.600 of its time on one device (the goal of 0.58 at most is missed)." in page
    assert "A decode of the 70B shape takes 1.300 of its floor (the goal of 1.35 at most is met)." in page
    assert "| 8b-2 | decode | 2.400 ms | 1.846 ms | 1.300 | 65 one_shot | 9.0 us |" in page
