"""The JSON schema of configurations is of this tree, and takes what a start takes."""

import re
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

import muxjax
from muxjax.__main__ import main
from muxjax.commands import config_schema
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.server.config import FOR_ALL_MODELS, HttpOptions
from muxjax.settings import names

ROOT = Path(__file__).parents[2]
FILE = Path(muxjax.__file__).with_name("config.schema.json")
README = re.search(r"```yaml\n(port:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
VALIDATOR = jsonschema_rs.validator_for(config_schema.schema())
GOOD = "models: [{name: a, path: x}]\n"


def test_the_file_of_the_package_is_what_this_tree_makes(capsys):
    assert FILE.read_text() == config_schema.text(), "make it again: python -m muxjax schema > muxjax/config.schema.json"
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == FILE.read_text()


def test_every_field_has_a_key_with_a_text():
    properties = config_schema.schema()["properties"]
    fields = names(UnitOptions, HttpOptions) | FOR_ALL_MODELS
    assert fields <= properties.keys()
    assert [name for name in sorted(fields) if not properties[name].get("description")] == ["host", "log_format", "log_level"]
    of_models = properties["models"]["items"]["properties"]
    assert [name for name in sorted(names(ModelOptions)) if not of_models[name].get("description")] == []


@pytest.mark.parametrize(
    "text",
    [
        (ROOT / "deploy/models.yaml").read_text(),
        README[1] if README else "",
        GOOD + "kv-cache-size: 1.5GiB\nshutdown_timeout: 90s\nport: 0\npolicy: null\nsm_shares: [96]\nallowed_origins: '*'",
        GOOD + "speculative_config: {method: ngram, num_speculative_tokens: 3}",
        GOOD + "max_model_len: 8k\nmax_num_batched_tokens: 4K\nmax_num_shared_tokens: 1.5k\ndtype: half",
        GOOD + "max_num_seqs: 4\nttl: 10m\ntenants: [{name: t, api_keys: [ab]}]\ngroups: [{name: g, swap: false}]",
    ],
)
def test_good_configurations_are_valid(text):
    assert VALIDATOR.is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "port: 1",
        "models: [{name: a}]",
        "models: {a: x}",
        GOOD + "max_num_seq: 4",
        GOOD + "port: eighty",
        GOOD + "max_model_len: 2.5K",
        GOOD + "dtype: double",
        GOOD + "policy: best",
        GOOD + "kv_cache_size: lots",
        "models: [{name: a, path: x, ttl: soon}]",
        GOOD + "tenants: [{nam: t}]",
        GOOD + "speculative_config: {method: eagle}",
        GOOD + "speculative_config: {num_speculative_tokens: 3}",
        GOOD + "speculative_config: {method: ngram, tokens: 3}",
    ],
)
def test_what_a_start_would_refuse_is_marked(text):
    assert not VALIDATOR.is_valid(yaml.safe_load(text))
