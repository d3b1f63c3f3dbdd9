"""Room for models and tokens on a GPU, by hand."""

from dataclasses import replace

from muxjax.specs.published import BY_NAME
from muxjax.specs.reading.quantization import resident
from scripts import bench_models_fit
from scripts.experiments.memory import Card, Needs, apart_tokens, cards_apart, most_apart, most_together, together_tokens

CARD = Card(total_bytes=1000, process_bytes=100, shared_bytes=150, least_tokens=10)
MODEL = Needs(weight_bytes=100, token_bytes=5)


def test_a_process_a_model_has_what_is_beside_it_once_each():
    assert most_apart(CARD, MODEL) == 4  # of 100 + 100 + 50
    assert apart_tokens(CARD, [MODEL] * 4) == (1000 - 800) / 20
    assert apart_tokens(CARD, [MODEL] * 6) < 0


def test_one_process_has_it_once_and_its_cache_is_for_whoever_is_asked():
    assert most_together(CARD, MODEL) == 5  # of 100 + 50, beside 150
    assert together_tokens(CARD, [MODEL] * 4, MODEL) == (1000 - 150 - 400) / 5


def test_cards_are_filled_by_falling_size():
    large = Needs(weight_bytes=550, token_bytes=5)  # takes 700
    assert cards_apart(CARD, [MODEL, large, MODEL, large]) == 2
    assert cards_apart(CARD, [MODEL] * 9) == 3
    assert cards_apart(CARD, [Needs(weight_bytes=900, token_bytes=5)]) == 0


def test_the_page_tells_both_ways_of_what_was_measured():
    def line(models: list[str], beside: int) -> dict:
        config = {"backend": "mux", "models": models, "cache_bytes": 2**35}
        values = {"total_bytes": 140 * 2**30, "used_bytes": 2**36, "weight_bytes": 2**34, "beside_bytes": beside}
        return {"device": "a GPU", "commit": "c", "config": config, "values": values}

    text = bench_models_fit.page([line(["1b"], 2**30), line(["8b"], 2**31), line(["1b", "3b", "8b"], 5 * 2**30)])
    assert "2 GiB for a process with one model and 5 GiB" in text
    assert "| llama-3.2-1b | " in text and "such GPUs in a process each" in text


def test_a_model_takes_what_its_weights_and_cache_are_held_in():
    spec = BY_NAME["llama-3.1-8b"]
    fp8 = replace(spec, quantization=resident(spec, None, "fp8"))
    assert Needs.of(spec) == Needs(weight_bytes=2 * spec.params, token_bytes=2 * 32 * 2 * 8 * 128)
    assert Needs.of(fp8, kv_bytes=1) == Needs(weight_bytes=int(fp8.weight_bytes(2)), token_bytes=32 * 2 * 8 * 128)
    latent = BY_NAME["deepseek-v2-lite"]
    assert Needs.of(latent).token_bytes == latent.layers * 576 * 2
