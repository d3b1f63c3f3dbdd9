from pathlib import Path

import pytest

from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.errors import ConfigError
from muxjax.server.config import load_options, named_options

FILE = """
port: 9000
policy: fcfs
tensor_parallel_size: 2
kv-cache-size: 1.5GiB
shutdown-timeout: 5
models:
  - name: big
    path: models/big
    aliases: [large, default]
    max_model_len: 4096
  - {name: small, path: /models/small, rate: 2}
"""


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> str:
        (tmp_path / "serve.yaml").write_text(text)
        return str(tmp_path / "serve.yaml")

    return written


def test_a_file_says_everything(write, tmp_path):
    unit, http, _ = load_options([write(FILE)], {})
    big, small = unit.models
    assert (big.name, big.path, big.aliases, big.max_model_len) == ("big", tmp_path / "models/big", ("large", "default"), 4096)
    assert (small.path, small.rate, small.max_model_len) == (Path("/models/small"), 2.0, None)
    assert (unit.policy, unit.kv_cache_bytes, unit.tensor_parallel_size) == ("fcfs", 3 * 2**29, 2)
    assert (http.port, http.shutdown_timeout_s) == (9000, 5.0)


def test_flags_beat_the_file(write):
    unit, http, _ = load_options(
        [write(FILE)], {"port": "1234", "max_model_len": "128", "kv_cache_size": "1MiB", "policy": "adbs", "tensor_parallel_size": "4"}
    )
    assert http.port == 1234
    assert [model.max_model_len for model in unit.models] == [128, 128]
    assert (unit.kv_cache_bytes, unit.policy, unit.tensor_parallel_size) == (2**20, "adbs", 4)


@pytest.mark.parametrize("written, tokens", [("8k", 8000), ("8K", 8192), ("2.5k", 2500), ("1M", 2**20), ("1.001k", 1001), (" 512 ", 512)])
def test_tokens_may_be_written_as_for_vllm(write, written, tokens):
    unit, _, _ = load_options([write(FILE)], {"max_model_len": written, "max_num_batched_tokens": written})
    assert ({model.max_model_len for model in unit.models}, unit.max_num_batched_tokens) == ({tokens}, tokens)
    unit, _, _ = load_options([write(FILE.replace("max_model_len: 4096", f"max_model_len: '{written}'"))], {})
    assert unit.models[0].max_model_len == tokens


@pytest.mark.parametrize("written, dtype", [("half", "float16"), ("float", "float32"), ("bfloat16", "bfloat16"), ("auto", "auto")])
def test_dtypes_have_the_names_that_vllm_takes(write, written, dtype):
    unit, _, _ = load_options([write(FILE)], {"dtype": written})
    assert {model.reading["dtype"] for model in unit.models} == {dtype}


def test_keys_of_models_at_the_top_hold_for_all_that_do_not_say_otherwise_and_flags_beat_both(write):
    top = "max-num-seqs: 7\nmax_model_len: 64\ndtype: float32\nauto_wake: true\n" + FILE.lstrip()

    def said(flags):
        return [
            (model.max_num_seqs, model.max_model_len, model.dtype, model.auto_wake) for model in load_options([write(top)], flags)[0].models
        ]

    assert said({}) == [(7, 4096, "float32", True), (7, 64, "float32", True)]
    assert said({"max_model_len": "32"}) == [(7, 32, "float32", True), (7, 32, "float32", True)]


def test_a_wrong_key_for_all_models_is_told_with_its_own_line(write):
    with pytest.raises(ConfigError, match=r"serve\.yaml:1: max_num_seqs must be 1 to 4096, got 0"):
        load_options([write("max_num_seqs: 0\nmodels: [{name: a, path: x}]")], {})
    with pytest.raises(ConfigError, match=r"serve\.yaml:1: path is no known key"):
        load_options([write("path: x\nmodels: [{name: a}]")], {})


def test_a_folder_of_a_model_is_served_by_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "Llama-3.2-1B").mkdir()
    (tmp_path / "Llama-3.2-1B" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "Llama-3.2-1B")
    unit, *_ = load_options([".", f"other={tmp_path}"], {})
    assert [(model.name, model.path) for model in unit.models] == [("Llama-3.2-1B", Path(".")), ("other", tmp_path)]
    assert [model.name for model in load_options([f"{tmp_path}/Llama-3.2-1B/"], {})[0].models] == ["Llama-3.2-1B"]
    with pytest.raises(ConfigError, match=r"Llama-3\.2-1B in it has one: give that folder"):
        load_options([str(tmp_path)], {})


def test_a_file_of_weights_is_told_what_it_is_and_not_read_as_a_configuration(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match=r"m\.gguf is no folder: it is a file; GGUF is not served: give the folder of safetensors"):
        load_options([str(tmp_path / "m.gguf")], {})


def test_models_have_a_ttl_and_a_group_as_llama_swap_has_them(write):
    text = "groups: [{name: big, exclusive: false}]\nttl: 10m\nmodels: [{name: a, path: x, group: big}, {name: b, path: y, ttl: 30}]"
    unit, *_ = load_options([write(text)], {})
    assert [(model.ttl_s, model.group, model.is_woken) for model in unit.models] == [(600.0, "big", True), (30.0, None, True)]
    assert [(group.name, group.swap, group.exclusive, group.persistent) for group in unit.groups] == [("big", True, False, False)]
    with pytest.raises(ConfigError, match="groups must be groups that a model names as its own, got 'bigg'"):
        load_options([write(text.replace("[{name: big,", "[{name: bigg,"))], {})
    with pytest.raises(ConfigError, match="groups must be a list of groups, each with name"):
        load_options([write("groups: {a: b}\nmodels: [{name: a, path: x}]")], {})


def test_a_model_may_name_its_devices(write):
    unit, *_ = load_options([write(FILE.replace("rate: 2", "rate: 2, devices: [1]"))], {})
    assert [model.devices for model in unit.models] == [None, (1,)]


def test_adapters_are_named_under_their_model_or_by_a_flag(write, tmp_path):
    text = FILE.replace("max_model_len: 4096", "max_model_len: 4096\n    loras: [{name: sql, path: adapters/sql}]\n    max_loras: 3")
    big, small = load_options([write(text)], {"lora": ["poems=/p:x/poems:default"]})[0].models
    assert [(lora.name, lora.path) for lora in big.loras] == [("sql", tmp_path / "adapters/sql"), ("poems", Path("/p:x/poems"))]
    assert (big.lora_places, small.loras, small.lora_places) == (3, (), 0)
    script = named_options({"m": "/m"}, {"lora": "x=/x:m", "max_lora_rank": 64})
    assert (script.models[0].lora_places, script.models[0].max_lora_rank) == (1, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loras: [{name: sql}]", r"serve\.yaml:11: loras: name: needs path too"),
        ("loras: [{name: sql, path: p, rank: 3}]", r"serve\.yaml:11: loras: rank is no known key"),
        ("loras: [{name: '', path: p}]", r"serve\.yaml:11: loras: name must be not empty, got "),
        ("loras: [sql]", r"serve\.yaml:11: loras must be keys with values, such as {name: ..., path: ...}, got 'sql'"),
        ("loras: [{name: small, path: p}]", "models must be named once each, got 'small'"),
        ("loras: [{name: sql, path: p}]\n    max_loras: 0", "max_loras must be 1 or more for the adapters of big"),
        ("max_lora_rank: 65", r"max_lora_rank must be 1 to 64, got 65"),
    ],
)
def test_errors_name_what_is_wrong_with_an_adapter(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load_options([write(FILE.replace("max_model_len: 4096", text))], {})


@pytest.mark.parametrize(
    ("flag", "message"),
    [("sql=/p", "NAME=PATH:BASE.*, got 'sql=/p'$"), ("=/p:m", "NAME=PATH:BASE"), ("a=/p:n", "over one of m, got .*a over n")],
)
def test_errors_name_what_is_wrong_with_the_flag_of_an_adapter(flag, message):
    with pytest.raises(ConfigError, match=f"lora must be .*{message}"):
        load_options(["m=/m"], {"lora": [flag]})


def test_models_may_stand_on_the_command_line():
    unit, http, _ = load_options(["a=x/y", "b=/z=1"], {"load_format": "dummy", "gpu_memory_utilization": "0.5"})
    assert [(model.name, model.path) for model in unit.models] == [("a", Path("x/y")), ("b", Path("/z=1"))]
    assert {model.load_format for model in unit.models} == {"dummy"}
    assert unit.gpu_memory_fraction == 0.5
    assert (http.host, http.port) == ("127.0.0.1", 8000)


def test_unknown_fields_of_checkpoints_refuse_them_unless_a_switch_or_a_line_says_otherwise(write):
    def allowed(sources, flags):
        return [model.allow_unknown_config for model in load_options(sources, flags)[0].models]

    assert allowed(["a=x"], {}) == [False]
    assert allowed(["a=x", "b=y"], {"allow_unknown_config": True}) == [True, True]
    assert allowed([write("models: [{name: a, path: x, allow-unknown-config: true}, {name: b, path: y}]")], {}) == [True, False]


def test_prefixes_are_kept_unless_a_switch_or_a_line_says_otherwise(write):
    options, *_ = load_options(["a=x"], {})
    assert (options.enable_prefix_caching, options.prefix_cache_fraction) == (True, 0.5)
    options, *_ = load_options(["a=x"], {"enable_prefix_caching": False, "prefix_cache_fraction": "0.2"})
    assert (options.enable_prefix_caching, options.prefix_cache_fraction) == (False, 0.2)
    options, *_ = load_options([write("enable-prefix-caching: false\nmodels: [{name: a, path: x}]")], {})
    assert not options.enable_prefix_caching


def test_drafts_are_made_as_a_model_a_file_or_a_flag_says(write):
    text = "speculative-config: {method: ngram}\nmodels: [{name: a, path: x}, {name: b, path: y, speculative_config: null}]"

    def said(sources, flags):
        return [model.speculative_config for model in load_options(sources, flags)[0].models]

    assert said(["a=x"], {}) == [None]
    assert said([write(text)], {}) == [SpeculativeOptions(method="ngram"), None]
    vllm = '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3}'
    own = SpeculativeOptions(method="ngram", num_speculative_tokens=3, prompt_lookup_min=1, prompt_lookup_max=3)
    assert said([write(text)], {"speculative_config": vllm}) == [own, own]


def test_shares_of_the_multiprocessors_are_numbers_in_a_file_or_on_the_command_line(write):
    models = "models: [{name: a, path: x}, {name: b, path: y}]"
    assert load_options([write(models)], {})[0].sm_shares == ()
    assert load_options([write(f"sm-shares: [96, 80]\n{models}")], {})[0].sm_shares == (96, 80)
    assert load_options([write(models)], {"sm_shares": ["96"]})[0].sm_shares == (96,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sm_shares: [96, many]\nmodels: [{name: a, path: x}, {name: b, path: y}]", "sm_shares must be an integer, got 'many'"),
        ("sm_shares: [96, 96]\nmodels: [{name: a, path: x}, {name: b, path: y}]", "sm_shares must be named once each"),
        ("sm_shares: [96]\nmodels: [{name: a, path: x}]", "sm_shares must be none where there is one lane"),
        ("modles: []", r"serve\.yaml:1: modles is no known key; did you mean models\?"),
        ("models:\n- name: a\n  path: x\n  max_model_length: 5", r"yaml:4: max_model_length is no known key; did you mean max_model_len\?"),
        ("port: 99999\nmodels: [{name: a, path: x}]", r"serve\.yaml:1: port must be 0 to 65535, got 99999"),
        ("models:\n- name: a\n  path: x\n  rate: -1", r"serve\.yaml:4: rate must be over 0"),
        ("port: x\nmodels: [{name: a, path: x}]", r"serve\.yaml:1: port must be an integer, got 'x'"),
        ("tensor_parallel_size: 0\nmodels: [{name: a, path: x}]", r"serve\.yaml:1: tensor_parallel_size must be 1 to 1024, got 0"),
        ("prefix_cache_fraction: 2\nmodels: [{name: a, path: x}]", r"prefix_cache_fraction must be 0 to 1, got 2"),
        ("port: true\nmodels: [{name: a, path: x}]", r"serve\.yaml:1: port "),
        ("kv_cache_size: lots\nmodels: [{name: a, path: x}]", r"serve\.yaml:1: kv_cache_size must be a size such as"),
        (
            "models:\n- name: a\n  path: x\n  speculative_config: {method: eagle}",
            r"serve\.yaml:4: speculative_config: method must be one of",
        ),
        ("models: [{name: a}]", r"serve\.yaml:1: .*needs path too"),
        ("models: {a: x}", "models must be a list of models, each with name and path"),
        ("", "expected keys with values"),
        ("a: [", "cannot read"),
        ("port: !!python/object:os.system {}", "cannot read"),
        ("models: [{name: a, path: x}, {name: a, path: y}]", "models must be named once each"),
    ],
)
def test_errors_name_file_line_and_key(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load_options([write(text)], {})


@pytest.mark.parametrize(
    ("sources", "flags", "message"),
    [
        (["a=x"], {"max_model_len": "1.5"}, "--max-model-len must be an integer, got '1.5'"),
        (["a=x"], {"max_model_len": "2.5K"}, r"--max-model-len must be a whole number before K, .*: did you mean 2\.5k\?"),
        (["a=x"], {"max_model_len": "8x"}, "--max-model-len must be an integer, got '8x'"),
        (["a=x"], {"max_model_len": "1T"}, "--max-model-len must be 2 to 16777216, got 1099511627776"),
        (["a=x"], {"max_num_seqs": "1k"}, "--max-num-seqs must be an integer, got '1k'"),
        (["a=x"], {"dtype": "double"}, "--dtype must be one of auto, bfloat16, float16, float32, got 'double'"),
        (["a=x"], {"policy": "best"}, "--policy must be one of"),
        (["a=x"], {"max_seqs": "1"}, r"--max-seqs is no known key; did you mean max-num-seqs\?"),
        (["a=x", "=b"], {}, "expected NAME=PATH, the folder of a model or one YAML file, got '=b'"),
        (["a=x", "b"], {}, "b is no folder: nothing is there; give the folder that holds the model's config.json"),
        (["meta-llama/Llama-3-8B"], {}, "Llama-3-8B is no folder: .* hf download meta-llama/Llama-3-8B --local-dir DIR, and then DIR"),
        (["no/such/model.gguf"], {}, r"no/such/model\.gguf is no folder: nothing is there"),
        (["absent.yaml"], {}, r"cannot read absent\.yaml"),
    ],
)
def test_errors_name_the_flag(sources, flags, message):
    with pytest.raises(ConfigError, match=message):
        load_options(sources, flags)


def test_a_script_names_options_as_the_fields_are():
    unit = named_options({"a": "x"}, {"max_num_seqs": 4, "kv_cache_bytes": 4096, "look_ahead": 1})
    assert (unit.models[0].max_num_seqs, unit.kv_cache_bytes, unit.look_ahead) == (4, 4096, 1)
    with pytest.raises(ConfigError, match=r"^max_seqs is no known key; did you mean max_num_seqs"):
        named_options({"a": "x"}, {"max_seqs": 4})
