"""The page of starts tells each device's on their own; a model is added to others whose programs are kept."""

import json
from typing import Any

import pytest

from muxjax.specs.published import BY_NAME
from scripts.bench_start import keep_others
from scripts.start_page import COSTS, page, sentence

STEPS = {"big step p99 alone": 0.010, "big step p99 beside": 0.013}


def run(device: str, case: str, *, tiny: bool = False, values: dict[str, Any]) -> dict[str, Any]:
    return {"device": device, "config": {"case": case, "tiny": tiny}, "values": values}


RUNS = [
    run("NVIDIA H200", "three models, nothing kept", values={"first answer": 30.84, "all programs": 197.3}),
    run("a CPU", "adding a model, its programs kept", tiny=True, values={"added": 2.5, "load": 1.5, **STEPS}),
    run("a CPU", "costs of programs", values={"costs": [{"model": "big", "program": "step", "count": 2, **dict.fromkeys(COSTS, 0.25)}]}),
    run("a CPU", "make demo, nothing kept", values={"processor": 11.0, "load": 0.5, "first answer": 12.34}),
]


def test_the_page_has_every_figure_beside_its_goal():
    text = page(RUNS)
    on_gpu, _, on_cpu = text.partition("## a CPU")

    assert "| three models, nothing kept |  |  | 30.8 (60) | 197.3 (240) |  |  |  |" in on_gpu
    assert "| adding a model, its programs kept (toy models) |  |  |  |  | 2.5 |  | 1.5 |" in on_cpu
    assert "| make demo, nothing kept |  |  | 12.3 (15) |  |  | 11.0 | 0.5 |" in on_cpu
    assert "| adding a model, its programs kept | big | 10.0 ms | 13.0 ms | 1.30 |" in on_cpu
    assert "| big | step | 2 | 0.25 |" in on_cpu


def test_the_readme_tells_of_the_load_that_the_demo_ran_beside():
    again = run("a CPU", "make demo, everything kept", values={"processor": 4.0, "load": 0.4, "first answer": 3.6})

    said = sentence([RUNS[3], again])
    assert "came 12 s after its first call, and 4 s after another one, for which programs were kept" in said
    assert "11 and 4 s of processors' time, beside a load of" in said


@pytest.mark.parametrize("linked", [True, False])
def test_all_is_kept_but_what_is_made_of_the_model_that_is_added(tmp_path, monkeypatch, linked):
    def refused(*paths):
        raise OSError

    if not linked:
        monkeypatch.setattr("os.link", refused)
    store, added = tmp_path / "store", BY_NAME["llama-3.2-1b"]
    sources = {"own": f"StepSource(spec={added!r}, tp=1)", "other": f"StepSource(spec={BY_NAME['llama-3.2-3b']!r}, tp=1)", "rows": "Rows()"}
    (store / "env").mkdir(parents=True)
    for name, source in sources.items():
        (store / "env" / f"{name}.program").write_bytes(json.dumps({"source": source}).encode() + b"\n\x80program")
    (store / "tuning" / "chip").mkdir(parents=True)
    (store / "tuning" / "chip" / "one.pb").write_bytes(b"choice")

    keep_others(store, tmp_path / "copy", added)

    copied = {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*.p*")}
    assert copied == {"env/other.program", "env/rows.program", "tuning/chip/one.pb"}
    assert (tmp_path / "copy" / "env" / "rows.program").read_bytes().endswith(b"\x80program")


def test_nothing_is_kept_of_a_store_that_is_not_there(tmp_path):
    keep_others(tmp_path / "store", tmp_path / "copy", BY_NAME["llama-3.2-1b"])

    assert not (tmp_path / "copy").exists()
