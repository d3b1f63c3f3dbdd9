"""What the server tells of itself."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from muxjax.cluster.plan import UnitSpec
from muxjax.cluster.remote_unit import RemoteUnit
from muxjax.engine.device_control import ProgramProgress
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.server.fleet import Fleet
from muxjax.server.http.routes.info import about, now
from muxjax.server.plans.placing import Placing
from muxjax.server.telemetry import memory
from muxjax.server.telemetry.memory import MemoryReader
from tests.fakes import FakeLifecycle
from tests.server.http.test_app import ask

OPTIONS = UnitOptions(
    models=(
        ModelOptions(name="org/a", path=Path("a"), max_num_seqs=7, ttft_s=0.5, tpot_s=0.05),
        ModelOptions(name="plain", path=Path("b"), kv_cache_dtype="fp8", quantization="fp8"),
    ),
    policy="fcfs",
)


def test_the_placement_in_force_is_told(serve):
    with serve(options=OPTIONS) as server:
        status, _, body = ask(server, "GET", "/server_info")
    told = json.loads(body)
    first, second = told["models"]

    assert status == 200
    assert (told["state"], told["policy"], told["devices"]) == ("ready", "fcfs", 1)
    assert told["cache"]["total_blocks"] == 1000 and told["cache"]["block_bytes"] == 16384
    assert told["limits"]["max_num_batched_tokens"] == 2048
    assert set(told["versions"]) >= {"python", "jax"}
    assert first["name"] == "org/a" and first["aliases"] == ["a"] and first["chat"] and not second["chat"]
    assert (first["max_num_seqs"], first["quota_blocks"], first["devices"], first["lane"], first["state"]) == (7, 100, [0], 0, "ready")
    assert first["targets"] == {"ttft_s": 0.5, "tpot_s": 0.05}
    assert second["targets"] == {"ttft_s": None, "tpot_s": None}
    assert [model["kv_cache_dtype"] for model in told["models"]] == ["auto", "fp8"]
    assert [model["quantization"] for model in told["models"]] == [None, "fp8"]


def test_how_far_programs_are_is_told_at_once_and_each_second(server):
    lifecycle = FakeLifecycle(["org/a"])
    lifecycle.programs = lambda: {"org/a": ProgramProgress(ready=3, all=9, failed=("a step of 8 tokens in 8 rows: ValueError",))}
    server.service.fleet = Fleet(lifecycle, server.service.catalog, OPTIONS)
    told = {"ready": 3, "all": 9, "failed": ["a step of 8 tokens in 8 rows: ValueError"]}

    assert about(server.service)["models"][0]["programs"] == now(server.service)["models"]["org/a"]["programs"] == told
    assert now(server.service)["models"]["plain"]["programs"] is None


def test_a_server_built_of_no_options_tells_what_it_knows(server):
    told = about(server.service)

    assert [model["name"] for model in told["models"]] == ["org/a", "plain"]
    assert told["policy"] is None and told["limits"] == {}
    json.dumps(told, allow_nan=False)


def test_paths_of_checkpoints_and_keys_are_not_told(serve):
    with serve(options=OPTIONS) as server:
        body = ask(server, "GET", "/server_info")[2].decode()

    assert "path" not in body and "key" not in body


def test_what_it_does_now_is_told_with_the_jobs_since_the_last_look(server):
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hello", "max_tokens": 4})
    first = json.loads(ask(server, "GET", "/server_info/live")[2])
    numbers = [row[0] for row in first["jobs"]]
    again = json.loads(ask(server, "GET", f"/server_info/live?after={numbers[1]}")[2])

    assert [row[2] for row in first["jobs"]] == ["prefill", "decode", "decode", "decode"]
    assert numbers == [1, 2, 3, 4]
    assert [row[0] for row in again["jobs"]] == [3, 4]
    model = first["models"]["org/a"]
    assert model["requests"] == 1 and 0 < model["ttft_s"][0] <= model["ttft_s"][1] < 10
    assert first["models"]["plain"]["ttft_s"] is None
    assert first["free_blocks"] == first["total_blocks"] == 1000


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "\uff19", "9" * 16, ""])
def test_an_odd_number_of_a_job_is_refused(server, after):
    status, _, body = ask(server, "GET", "/server_info/live?after=" + "".join(f"%{byte:02x}" for byte in after.encode()))

    assert status == 400
    assert json.loads(body)["error"]["param"] == "after"


def test_a_dead_engine_is_told_as_failed(server):
    server.engine.die()

    assert now(server.service)["state"] == "failed"
    assert {model["state"] for model in now(server.service)["models"].values()} == {"failed"}


def test_requests_that_ended_and_those_refused_are_told_without_what_they_said(server):
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hello secret", "max_tokens": 4})
    ask(server, "POST", "/v1/completions", {"model": "none-secret", "prompt": "hello"})
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hello", "temperature": "secret"})
    ask(server, "POST", "/secret", {})
    ask(server, "GET", "/secret")  # a look is none
    body = ask(server, "GET", "/server_info/live")[2].decode()
    told = json.loads(body)
    (request,) = told["requests"]

    assert (request["model"], request["tokens"], request["finish"]) == ("org/a", 4, "length")
    assert 0 < request["ttft_s"] <= request["duration_s"] and request["age_s"] >= 0
    seen = [(refusal["status"], refusal["code"], refusal["route"]) for refusal in told["refusals"]]
    assert seen == [
        (404, "", "no route"),
        (400, "temperature", "/v1/completions"),
        (404, "model_not_found", "/v1/completions"),
    ]
    assert told["refused"] == {"400": 1, "404": 2}
    assert "secret" not in body


def test_memory_of_the_devices_and_the_time_since_the_start_are_told(server):
    told = json.loads(ask(server, "GET", "/server_info/live")[2])
    (machine,) = told["memory"]

    assert 0 < machine["used_bytes"] < machine["total_bytes"]
    assert told["uptime_s"] >= 0


def test_memory_is_read_once_for_all_who_ask_within_seconds():
    read = []

    async def looks():
        reader = MemoryReader(lambda: read.append(1) or [{"name": "x", "used_bytes": len(read), "total_bytes": 9}])
        return [await reader.last(), *(await asyncio.gather(reader.last(), reader.last()))]

    assert {one[0]["used_bytes"] for one in asyncio.run(looks())} == {1}
    assert read == [1]


def test_gpus_are_those_that_the_process_may_use(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text('#!/bin/sh\necho "512, 81559, NVIDIA H100, of $3"\n')
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory.read({"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": "3"}) == [
        {"name": "NVIDIA H100, of --id=3", "used_bytes": 512 * 2**20, "total_bytes": 81559 * 2**20}
    ]
    monkeypatch.setenv("PATH", "")
    assert memory.read({"JAX_PLATFORMS": "cuda"}) == []


def test_bits_are_told_as_units_have_them(server):
    """A placement may have a model in fewer than its options say."""
    held = UnitOptions(models=(ModelOptions(name="org/a", path=Path("a"), quantization="fp8", kv_cache_dtype="fp8"),))
    unit = RemoteUnit(UnitSpec(name="0", devices=(0,), options=held), None, None, silence_s=1.0, report=print)  # pyright: ignore[reportArgumentType]
    server.service.fleet = Fleet(FakeLifecycle(["org/a"]), server.service.catalog, OPTIONS)
    server.service.placing = Placing(SimpleNamespace(units={"0": unit}), None, OPTIONS, None)  # pyright: ignore[reportArgumentType]
    told = {model["name"]: (model["quantization"], model["kv_cache_dtype"]) for model in about(server.service)["models"]}
    assert told == {"org/a": ("fp8", "fp8"), "plain": ("fp8", "fp8")}
