import pytest

from muxjax.errors import ConfigError, RequestError
from muxjax.server.catalog import Catalog
from muxjax.server.openai.schema import parse_completion
from muxjax.server.sampling_defaults import SamplingDefaults, load_defaults
from tests.server.kit import STAMP, served, write_json


def test_sampling_defaults_come_from_the_checkpoint(tmp_path):
    assert load_defaults(tmp_path) == SamplingDefaults(temperature=1.0, top_p=1.0, top_k=0)
    values = {"temperature": 0.6, "top_p": None, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05}
    write_json(tmp_path / "generation_config.json", values)
    assert load_defaults(tmp_path) == SamplingDefaults(temperature=0.6, top_p=1.0, top_k=20, min_p=0.1, repetition_penalty=1.05)
    write_json(tmp_path / "generation_config.json", {"temperature": "hot"})
    with pytest.raises(ConfigError, match=r"generation_config\.json: temperature must be a number from 0 to 1000, got 'hot'"):
        load_defaults(tmp_path)


def test_what_a_request_may_say_a_checkpoint_may_prefer(tmp_path):
    write_json(tmp_path / "generation_config.json", {"temperature": 2.5, "top_k": -1, "top_p": 1, "eos_token_id": -1})
    assert load_defaults(tmp_path) == SamplingDefaults(temperature=2.5, top_k=0)
    write_json(tmp_path / "generation_config.json", {"temperature": 0, "top_k": 0})
    assert load_defaults(tmp_path) == SamplingDefaults(temperature=0, top_k=0)


@pytest.mark.parametrize("values", [{"top_k": -2}, {"top_k": 2**31}, {"temperature": -0.1}, {"temperature": float("nan")}, {"min_p": True}])
def test_what_no_request_may_say_refuses_the_model_by_name(tmp_path, values):
    write_json(tmp_path / "generation_config.json", values)
    with pytest.raises(ConfigError, match=rf"generation_config\.json: {next(iter(values))} must be a number from"):
        load_defaults(tmp_path)


def test_a_model_that_prefers_a_high_temperature_gets_it_and_its_requests_may_name_it(tokenizer):
    catalog = Catalog([served(tokenizer, "a", defaults=SamplingDefaults(temperature=2.5))])
    bodies = ({"prompt": "cat"}, {"prompt": "cat", "temperature": 2.2})
    assert [parse_completion(body, catalog, STAMP).requests[0].sampling.temperature for body in bodies] == [2.5, 2.2]
    with pytest.raises(RequestError, match="temperature"):
        parse_completion({"prompt": "cat", "temperature": 2.6}, catalog, STAMP)
