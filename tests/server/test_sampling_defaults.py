import pytest

from muxjax.errors import ConfigError
from muxjax.server.sampling_defaults import SamplingDefaults, load_defaults
from tests.server.kit import write_json


def test_sampling_defaults_come_from_the_checkpoint(tmp_path):
    assert load_defaults(tmp_path) == SamplingDefaults(temperature=1.0, top_p=1.0, top_k=0)
    values = {"temperature": 0.6, "top_p": None, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05}
    write_json(tmp_path / "generation_config.json", values)
    assert load_defaults(tmp_path) == SamplingDefaults(temperature=0.6, top_p=1.0, top_k=20, min_p=0.1, repetition_penalty=1.05)
    write_json(tmp_path / "generation_config.json", {"temperature": "hot"})
    with pytest.raises(ConfigError, match=r"generation_config\.json: temperature must be a number from 0 to 2, got 'hot'"):
        load_defaults(tmp_path)
