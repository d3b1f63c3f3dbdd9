"""What is compiled ahead for an experiment is what its servers of muxjax run."""

from dataclasses import replace

from muxjax.commands import compile
from scripts.experiments.programs import compile_programs
from scripts.experiments.questions import BY_NAME


def test_the_programs_of_all_of_muxjaxs_servers_are_compiled(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(compile, "run", lambda unit, chip, *, tune: compiled.append((unit, chip, tune)))
    question = replace(BY_NAME["three-models"].twin, backends=("mux", "adbs", "spatial", "vllm", "static=scripts.baselines.static_cache"))
    assert compile_programs(question, tmp_path, "h200") == 0
    assert {(chip, tune) for _, chip, tune in compiled} == {("h200", False)}
    together, by_turns, *apart = [unit for unit, _, _ in compiled]
    assert together.kv_cache_bytes == by_turns.kv_cache_bytes == 32 * 2**20
    assert [model.name for model in together.models] == list(question.models) == [unit.models[0].name for unit in apart]
    assert sum(unit.kv_cache_bytes for unit in apart) <= 32 * 2**20 and {len(unit.models) for unit in apart} == {1}
    assert {model.max_num_seqs for unit in (together, by_turns, *apart) for model in unit.models} == {question.max_num_seqs}


def test_what_cannot_be_compiled_is_told(tmp_path, monkeypatch, capsys):
    question = replace(BY_NAME["three-models"].twin, backends=("mux",))
    assert compile_programs(question, tmp_path, "h300") == 2
    assert "chip must be one of H200, got 'h300'" in capsys.readouterr().err
