"""Shapes by name are those of the models: their numbers of parameters, as published, tell."""

import pytest

from muxjax.specs.published import BY_NAME

BILLIONS = {
    "llama-3.2-1b": 1.24,
    "llama-3.2-3b": 3.21,
    "llama-3.1-8b": 8.03,
    "llama-3.1-70b": 70.6,
    "llama-3.1-405b": 405.9,
    "llama-2-7b": 6.74,
    "llama-2-13b": 13.0,
    "llama-2-70b": 69.0,
    "llama-7b": 6.74,
    "llama-13b": 13.0,
    "llama-30b": 32.5,
    "llama-65b": 65.3,
    "qwen2.5-0.5b": 0.494,
    "qwen2.5-1.5b": 1.54,
    "qwen2.5-3b": 3.09,
    "qwen2.5-7b": 7.62,
    "qwen2.5-14b": 14.8,
    "qwen2.5-32b": 32.8,
    "qwen2.5-72b": 72.7,
    "qwen3-0.6b": 0.596,
    "qwen3-1.7b": 1.72,
    "qwen3-4b": 4.02,
    "qwen3-8b": 8.19,
    "qwen3-14b": 14.8,
    "qwen3-32b": 32.8,
    "starcoder2-3b": 3.03,
    "starcoder2-7b": 7.17,
    "starcoder2-15b": 15.96,
    "command-r7b": 8.03,
    "deepseek-v2-lite": 15.7,
    "deepseek-v3": 671.0,
    "mistral-7b": 7.25,
    "mistral-nemo-12b": 12.2,
    "mistral-small-24b": 23.6,
    "mistral-large-123b": 122.6,
    "gemma-2-2b": 2.61,
    "gemma-2-9b": 9.24,
    "gemma-2-27b": 27.2,
    "gemma-3-1b": 1.00,
    "gemma-3-4b": 3.88,
    "gemma-3-12b": 11.8,
    "gemma-3-27b": 27.0,
    "mixtral-8x7b": 46.7,
    "mixtral-8x22b": 140.6,
    "qwen3-30b-a3b": 30.5,
    "qwen3-235b-a22b": 235.1,
    "olmoe-1b-7b": 6.92,
}
ACTIVE = {
    "mixtral-8x7b": 12.9,
    "mixtral-8x22b": 39.1,
    "qwen3-30b-a3b": 3.35,
    "qwen3-235b-a22b": 22.2,
    "olmoe-1b-7b": 1.28,
    "deepseek-v2-lite": 2.66,
    "deepseek-v3": 37.5,
}


@pytest.mark.parametrize("name", BY_NAME)
def test_a_shape_has_the_parameters_of_its_model(name):
    assert BY_NAME[name].params / 1e9 == pytest.approx(BILLIONS[name], rel=0.01)


@pytest.mark.parametrize("name", BY_NAME)
def test_what_computes_a_token_is_what_the_model_is_named_by(name):
    expected = ACTIVE[name] * 1e9 if name in ACTIVE else BY_NAME[name].params
    assert BY_NAME[name].active_params == pytest.approx(expected, rel=0.01)
