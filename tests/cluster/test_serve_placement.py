"""`muxjax serve --placement` as its users have it: real models, real processes, HTTP."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from muxjax.cluster.launcher import born, running
from muxjax.demo.run import shipped
from muxjax.placement.plan_file import as_json, write_placement
from muxjax.placement.problem import Placed, Placement, UnitPlan
from muxjax.specs.config import read_spec
from tests.cluster.kit import ROOT, WAIT_S
from tests.models.adapter import make_adapter

KEY = "a key for administration"
FARM, FOREST, SEA = (folder.name for folder in sorted(shipped()))


def placement(*units: tuple[str, ...]) -> Placement:
    return Placement(
        units=tuple(
            UnitPlan(devices=1, members=tuple(Placed(model=model, rate_rps=1.0, devices=(0,)) for model in models)) for models in units
        )
    )


def over_two(model: str) -> Placement:
    return Placement(units=(UnitPlan(devices=2, members=(Placed(model=model, rate_rps=1.0, devices=(0, 1)),)),))


class Cluster:
    """A server of two units, one of which has a replica of the other's model."""

    def __init__(self, folder: Path):
        self.workers = folder / "workers"
        models: list[dict[str, Any]] = [{"name": path.name, "path": str(path), "max_num_seqs": 8} for path in shipped()]
        farm = next(model for model in models if model["name"] == FARM)
        adapter = make_adapter(folder / "adapter", read_spec(Path(farm["path"])), 1, lora_alpha=1)
        farm |= {"loras": [{"name": "strange", "path": str(adapter)}], "max_loras": 2, "max_lora_rank": 4}
        options = {"models": models, "max_num_batched_tokens": 64, "kv_cache_size": 2**20, "block_bytes": 2**11, "port": 0}
        options |= {"compilation_cache_dir": str(folder / "programs"), "admin_keys": [], "worker_dir": str(self.workers)}
        (folder / "config.yaml").write_text(json.dumps({name: value for name, value in options.items() if value != []}))
        write_placement(placement((FARM, SEA), (FOREST, SEA)), folder / "placement.json")
        self._command = [
            sys.executable,
            "-m",
            "muxjax",
            "serve",
            str(folder / "config.yaml"),
            "--placement",
            str(folder / "placement.json"),
        ]
        self.log = (folder / "log").open("w+")
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "MUXJAX_ADMIN_KEY": KEY, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip().removesuffix("/v1")
        self._reader = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._reader.start()
        self.until(lambda: {model["state"] for model in self.get("/v1/models")["data"]} == {"ready"})

    def close(self) -> None:
        """Of a server that has ended."""
        assert self.process.stdout is not None
        self._reader.join()
        self.process.stdout.close()

    def pid(self, unit: str) -> int | None:
        return running(self.workers / f"unit-{unit}.pid")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.request(path), timeout=WAIT_S) as answer:
            return json.load(answer)

    def units(self) -> set[str]:
        """States of them."""
        return {unit["state"] for unit in self.get("/server_info")["units"]}

    def post(self, path: str, body: object) -> Any:
        with urllib.request.urlopen(self.request(path, json.dumps(body).encode()), timeout=WAIT_S) as answer:
            return json.load(answer)

    def refusal(self, path: str, body: object) -> tuple[int, Any]:
        with pytest.raises(urllib.error.HTTPError) as error:
            self.post(path, body)
        return error.value.code, json.load(error.value)["error"]

    def request(self, path: str, body: bytes | None = None, method: str | None = None) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        return urllib.request.Request(self.url + path, body, headers, method=method)

    def stream(self, model: str, **fields: Any) -> Iterator[str]:
        body = {"model": model, "prompt": "Once", "max_tokens": 100, "ignore_eos": True, "stream": True, **fields}
        with urllib.request.urlopen(self.request("/v1/completions", json.dumps(body).encode()), timeout=WAIT_S) as answer:
            for line in answer:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    assert "error" not in event, event
                    yield from (choice["text"] for choice in event["choices"])

    def until(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while True:
            assert time.monotonic() < deadline_s and self.process.poll() is None, "it takes too long"
            try:
                if holds():
                    return
            except OSError:
                pass
            time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    running_cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield running_cluster
    pids = running_cluster.pid("0"), running_cluster.pid("1")
    running_cluster.process.send_signal(signal.SIGTERM)
    assert running_cluster.process.wait(WAIT_S) == 0
    running_cluster.close()
    running_cluster.log.close()
    assert not any(pid and born(pid) for pid in pids), "a worker outlives the server that it was stopped by"


def test_every_model_is_listed_and_answers(cluster):
    listed = cluster.get("/v1/models")["data"]
    assert {(model["id"], model["state"]) for model in listed} == {(name, "ready") for name in (FARM, FOREST, SEA, "strange")}
    for model in (FARM, FOREST, SEA):
        assert len("".join(cluster.stream(model, max_tokens=5))) > 0


def test_units_are_told_apart(cluster):
    info = cluster.get("/server_info")
    assert [(unit["name"], unit["models"], unit["state"]) for unit in info["units"]] == [
        ("0", [FARM, SEA], "ready"),
        ("1", [FOREST, SEA], "ready"),
    ]
    assert {model["name"]: model["devices"] for model in info["models"]} == {FARM: [0], FOREST: [1], SEA: [0, 1]}
    with urllib.request.urlopen(cluster.request("/metrics")) as answer:
        text = answer.read().decode()
    for unit in "01":
        assert f'vllm:num_requests_running{{model_name="{SEA}",unit="{unit}"}}' in text


def test_adapters_are_served_by_the_workers_of_their_model(cluster):
    own, strange = ("".join(cluster.stream(model, temperature=0)) for model in (FARM, "strange"))
    assert own != strange
    body = {"name": "late", "path": cluster.get("/admin/adapters")["data"][0]["path"], "model": FARM}
    assert cluster.post("/admin/adapters", body)["model"] == FARM
    assert "".join(cluster.stream("late", temperature=0)) == strange


@pytest.mark.parametrize(
    ("model", "fields"),
    [(FARM, {"temperature": 0}), (FARM, {"temperature": 1.0, "seed": 5}), ("strange", {"temperature": 0})],
)
def test_a_stream_whose_worker_is_killed_is_the_same_stream(cluster, model, fields):
    whole = "".join(cluster.stream(model, **fields))
    killed = cluster.pid("0")
    begun = ""
    for piece in cluster.stream(model, **fields):
        before, begun = begun, begun + piece
        if len(before) < 10 <= len(begun):  # tokens that come together are one piece
            os.kill(killed, signal.SIGKILL)
    assert begun == whole
    cluster.until(lambda: cluster.pid("0") not in (killed, None) and cluster.units() == {"ready"})  # as the next test finds it


def test_a_server_that_is_killed_finds_its_workers_again(cluster):
    pids = cluster.pid("0"), cluster.pid("1")
    before = "".join(cluster.stream(FOREST, temperature=0))
    cluster.process.kill()
    cluster.process.wait()
    cluster.close()
    cluster.start()
    assert (cluster.pid("0"), cluster.pid("1")) == pids
    assert "".join(cluster.stream(FOREST, temperature=0)) == before


def test_another_placement_is_served_while_requests_go_on(cluster):
    wanted = as_json(placement((FARM,), (FOREST, SEA)))
    expected = "".join(cluster.stream(SEA, temperature=0))
    dry = cluster.post("/admin/placement?dry_run=true", wanted)
    assert dry == {"dry_run": True, "changes": [f"remove {SEA} from unit 0"]}
    assert len(cluster.get("/admin/placement")["places"][0]["models"]) == 2
    told: list[str] = []
    streams = [threading.Thread(target=lambda: told.append("".join(cluster.stream(SEA, temperature=0)))) for _ in range(4)]
    for stream in streams:
        stream.start()
    assert cluster.post("/admin/placement", wanted)["changes"] == dry["changes"]
    for stream in streams:
        stream.join()
    assert told == [expected] * 4
    assert [place["models"] for place in cluster.get("/admin/placement")["places"]] == [[FARM], [FOREST, SEA]]
    cluster.post("/admin/placement", as_json(placement((FARM, SEA), (FOREST,))))
    assert "".join(cluster.stream(SEA, temperature=0)) == expected
    assert [place["models"] for place in cluster.get("/admin/placement")["places"]] == [[FARM, SEA], [FOREST]]


def test_models_that_come_and_go_are_part_of_what_is_served(cluster):
    before = cluster.get("/admin/placement")
    (sea,) = (model for model in cluster.get("/admin/models")["data"] if model["name"] == SEA)
    with urllib.request.urlopen(cluster.request(f"/admin/models/{SEA}", method="DELETE")):
        assert SEA not in json.dumps(cluster.get("/admin/placement"))
    refused = cluster.refusal("/admin/placement", before)
    assert refused[0] == 400 and f"not configured: {SEA}" in refused[1]["message"]
    cluster.post("/admin/models", {"name": SEA, "path": sea["path"], "max_num_seqs": 8})
    assert cluster.post("/admin/placement", cluster.get("/admin/placement"))["changes"] == []
    assert len("".join(cluster.stream(SEA, max_tokens=5))) > 0

    cluster.post("/admin/placement", as_json(placement((FARM,), (FOREST,))))
    assert cluster.get(f"/v1/models/{SEA}")["state"] == "unplaced" and cluster.get("/ready")["ready"]
    refused = cluster.refusal("/v1/completions", {"model": SEA, "prompt": "Once"})
    assert refused == (503, refused[1] | {"code": "model_unplaced"})
    cluster.post("/admin/placement", before)
    assert len("".join(cluster.stream(SEA, max_tokens=5))) > 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"units": []}, "muxjax_placement must be 1"),
        ({"muxjax_placement": 1, "units": []}, "no unit with a model"),
        (as_json(placement(("nobody",))), "not configured: nobody"),
        (as_json(over_two(FOREST)), f"{FOREST}: tensor_parallel_size must be a divisor of num_key_value_heads=3, got 2"),
    ],
)
def test_what_is_no_placement_is_refused_and_nothing_moves(cluster, body, message):
    before, workers = cluster.get("/admin/placement"), (cluster.pid("0"), cluster.pid("1"))
    status, error = cluster.refusal("/admin/placement", body)
    assert status == 400 and message in error["message"]
    assert cluster.get("/admin/placement") == before and (cluster.pid("0"), cluster.pid("1")) == workers
