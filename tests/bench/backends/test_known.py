"""Commands of the backends, as values."""

import itertools
import sys
from pathlib import Path

import pytest

from muxjax.__main__ import main
from muxjax.bench.backends.known import BY_NAME, backend_of
from muxjax.bench.backends.mux import THREADS
from muxjax.errors import ConfigError
from tests.bench.backends.kit import GIB, fleet, member

BIG = member("big", cache_share=0.75, compute_share=0.98)
SMALL = member("small", cache_share=0.25, compute_share=0.02)
PAIR = fleet(BIG, SMALL, max_model_len=2048, max_num_seqs=300)


def servers(name, of=PAIR):
    return list(backend_of(name).servers(of, itertools.count(5000).__next__))


def flags(server):
    """Values by flag; "" of one without a value."""
    words = [*server.command, "--"]
    named = [i for i, word in enumerate(words) if word.startswith("--")]
    return {words[i]: " ".join(words[i + 1 : j]) for i, j in itertools.pairwise(named)}


@pytest.mark.parametrize("name", BY_NAME)
def test_each_backend_serves_each_model_once_at_ports_of_this_host(name, tmp_path):
    members = []
    for one in (BIG, SMALL):
        path = tmp_path / one.name
        path.mkdir()
        (path / "tokenizer.json").write_text("{}")
        (path / "weights.gguf").write_text("")
        members.append(member(one.name, path=path, cache_share=one.cache_share, compute_share=one.compute_share))
    found = servers(name, fleet(*members))
    assert sorted(model for server in found for model in server.models) == ["big", "small"]
    assert [server.port for server in found] == list(range(5000, 5000 + len(found)))
    assert all(flags(server)["--port"] == str(server.port) and flags(server)["--host"] == "127.0.0.1" for server in found)
    assert len(found) == (1 if name in ("mux", "lanes", "adbs", "round-robin", "turns") else 2)


def test_muxjax_has_all_models_in_one_process_with_the_whole_cache():
    (server,) = servers("turns")
    assert server.command[:6] == (sys.executable, "-m", "muxjax", "serve", "big=/models/big", "small=/models/small")
    told = flags(server)
    assert (told["--kv-cache-size"], told["--policy"], told["--lanes"]) == (str(8 * GIB), "fcfs", "1")
    assert (told["--max-model-len"], told["--max-num-seqs"], told["--dtype"], told["--load-format"]) == ("2048", "300", "bfloat16", "auto")
    assert (server.health_url, server.url) == ("http://127.0.0.1:5000/ready", "http://127.0.0.1:5000/v1")


def test_muxjaxs_flags_are_its_own(monkeypatch):
    (server,) = servers("adbs")
    heard = []
    monkeypatch.setattr("muxjax.commands.serve.run", lambda options: heard.append(options) or 0)
    assert main(list(server.command[3:])) == 0
    assert (heard[0].unit.policy, heard[0].unit.lanes, heard[0].unit.kv_cache_bytes) == ("adbs", 1, 8 * GIB)


def test_fixed_shares_are_of_the_cache_and_of_the_multiprocessors():
    big, small = servers("spatial")
    assert [flags(one)["--kv-cache-size"] for one in (big, small)] == [str(6 * GIB), str(2 * GIB)]
    assert [one.environment[THREADS] for one in (big, small)] == ["98", "5"]  # of very little, still something
    assert THREADS not in servers("static-memory")[0].environment


def test_vllm_has_its_cache_in_bytes():
    told = flags(servers("vllm-mps")[0])
    assert (told["--kv-cache-memory-bytes"], told["--gpu-memory-utilization"]) == (str(6 * GIB), "0.1500")
    assert (told["--served-model-name"], told["--max-num-seqs"], told["--load-format"]) == ("big", "300", "auto")
    assert "--skip-tokenizer-init" in told  # as the folder has none


def test_sglang_has_its_cache_in_tokens_and_needs_a_tokenizer(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (server,) = servers("sglang", fleet(member(path=tmp_path), dummy=True))
    told = flags(server)
    assert (told["--max-total-tokens"], told["--load-format"], told["--model-path"]) == (str(2**14), "dummy", str(tmp_path))
    with pytest.raises(ConfigError, match=r"/models/big has no tokenizer\.json"):
        servers("sglang")


def test_llama_cpp_has_its_cache_in_tokens_and_needs_its_own_format(tmp_path):
    (tmp_path / "b.gguf").write_text("")
    (server,) = servers("llama.cpp", fleet(member(path=tmp_path), dtype="float32", max_num_seqs=300))
    told = flags(server)
    assert (told["--ctx-size"], told["--parallel"], told["--cache-type-k"]) == (str(2**14), "256", "f32")
    assert told["--model"] == str(tmp_path / "b.gguf")
    with pytest.raises(ConfigError, match="/models/big has no file in GGUF"):
        servers("llama.cpp")


def test_a_module_is_a_backend_under_a_name_of_its_own():
    backend = backend_of("mine=some.module")
    (server, _) = servers("mine=some.module")
    assert (backend.name, backend.mps, backend_of("mine-mps=some.module").mps) == ("mine", False, True)
    assert server.command[:4] == (sys.executable, "-m", "some.module", f"big={Path('/models/big')}")
    assert flags(server)["--kv-cache-size"] == str(6 * GIB)


@pytest.mark.parametrize("name", ["", "nobody", "=module", "mine=", "mux=module"])
def test_who_is_not_known_is_told_with_those_who_are(name):
    with pytest.raises(ConfigError, match=r"backends must be .*mux, lanes"):
        backend_of(name)


NARROW = {"quantization": "fp8_w8a8", "kv_cache_dtype": "fp8"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mux", ("fp8_w8a8", "fp8")),
        ("spatial", ("fp8_w8a8", "fp8")),
        ("vllm", ("fp8", "fp8")),
        ("sglang", ("fp8", "fp8_e4m3")),
        ("mine=some.module", ("fp8_w8a8", "fp8")),
    ],
)
def test_each_is_told_of_fewer_bits_in_its_own_words_and_only_where_there_are(name, words, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    one = member(path=tmp_path)
    told = flags(servers(name, fleet(one, **NARROW))[0])
    assert (told["--quantization"], told["--kv-cache-dtype"]) == words
    assert not {"--quantization", "--kv-cache-dtype"} & flags(servers(name, fleet(one))[0]).keys()


def test_muxjaxs_flags_of_fewer_bits_are_its_own(monkeypatch):
    (server,) = servers("mux", fleet(BIG, SMALL, **NARROW))
    heard = []
    monkeypatch.setattr("muxjax.commands.serve.run", lambda options: heard.append(options) or 0)
    assert main(list(server.command[3:])) == 0
    assert {(model.quantization, model.kv_cache_dtype) for model in heard[0].unit.models} == {("fp8_w8a8", "fp8")}


@pytest.mark.parametrize("how", [{"quantization": "fp8"}, {"kv_cache_dtype": "fp8"}])
def test_llama_cpp_which_has_no_fp8_is_refused(how, tmp_path):
    (tmp_path / "b.gguf").write_text("")
    with pytest.raises(ConfigError, match=r"llama\.cpp has no FP8"):
        servers("llama.cpp", fleet(member(path=tmp_path), **how))
