"""The whole engine over quantised weights makes the tokens of the weights they stand for, on one device and on two, with adapters too."""

import queue
import time

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.launch.build import build
from muxjax.models.layers import Products
from muxjax.models.lora.files import open_adapter
from muxjax.models.weights import load
from muxjax.pallas.reference import product_in_fp8
from muxjax.specs.config import read_spec, to_hf_config
from muxjax.types import Adapter, Request, Sampling
from tests.models.adapter import make_adapter
from tests.models.golden import dense_logits, seeded_tensors
from tests.models.quantised import FORMS, SPECS, make_quantised, write_model
from tests.programs import only_essential_programs
from tests.xla_cache import XLA_CACHE

PROMPTS = ((3, 1, 4, 1, 5, 9, 2, 6), (2, 7, 1, 8), tuple(range(1, 30)))
TOKENS, WAIT_S = 24, 120


def tokens(folder, *, adapter: Adapter | None = None, tp: int = 1, **options) -> list[tuple[int | None, ...]]:
    """Greedy answers to the prompts, all submitted at once."""
    model = ModelOptions(name="m", path=folder, max_num_seqs=4, max_loras=2 if adapter else None, **options)
    unit = UnitOptions(
        models=(model,),
        tensor_parallel_size=tp,
        kv_cache_bytes=4 * 2**20,
        block_bytes=2048,
        max_num_batched_tokens=16,
        compilation_cache_dir=str(XLA_CACHE),
    )
    said: queue.SimpleQueue = queue.SimpleQueue()
    with only_essential_programs():
        built = build(unit, report=lambda line: None, progress=False)
    built.engine.start(said.put)
    try:
        for i, prompt in enumerate(PROMPTS):
            sampling = Sampling(temperature=0.0, max_tokens=TOKENS)
            built.engine.submit(
                Request(id=str(i), model="m", prompt=prompt, sampling=sampling, arrival_s=time.monotonic(), adapter=adapter)
            )
        outputs: list[list] = [[] for _ in PROMPTS]
        while not all(each and each[-1].finish for each in outputs):
            for output in said.get(timeout=WAIT_S):
                outputs[int(output.request_id)].append(output)
    finally:
        built.engine.stop()
    return [tuple(output.token for output in each) for each in outputs]


@pytest.mark.parametrize(
    ("spec", "form", "tp"),
    [
        ("dense", "compressed, by channel", 1),
        ("dense", "fine-grained fp8", 2),
        ("dense", "packed, symmetric", 1),
        ("fused", "gptq", 2),
        ("mixture", "fine-grained fp8", 1),
        ("mixture", "awq", 2),
    ],
)
def test_greedy_tokens_are_those_of_the_weights_it_stands_for(tmp_path, spec, form, tp):
    quantised, meant = make_quantised(tmp_path, SPECS[spec], FORMS[form])
    assert tokens(quantised, tp=tp) == tokens(meant)


def test_what_is_quantised_while_it_is_loaded_is_served_alike_on_two_devices(tmp_path):
    folder = write_model(tmp_path / "whole", to_hf_config(SPECS["dense"]), seeded_tensors(SPECS["dense"], 0))
    assert tokens(folder, quantization="fp8", tp=2) == tokens(folder, quantization="fp8") != tokens(folder)


def test_prompts_are_rounded_where_it_is_wished_and_answers_go_on_from_them(tmp_path):
    """The first token is that of the decoder whose products round activations; what decodes is computed as ever, over what prompts left."""
    folder = write_model(tmp_path / "whole", to_hf_config(SPECS["dense"]), seeded_tensors(SPECS["dense"], 0))
    answers = tokens(folder, quantization="fp8_w8a8")
    spec = read_spec(folder, quantization="fp8_w8a8")
    params = load(folder, spec, progress=False)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer[0] == dense_logits(spec, params, prompt, Products(product_in_fp8))[-1].argmax()
    assert answers != tokens(folder, quantization="fp8")
    assert [len(answer) for answer in tokens(folder, quantization="fp8_w8a8", tp=2)] == [TOKENS] * len(PROMPTS)


def test_adapters_are_served_over_a_quantised_model(tmp_path):
    quantised, meant = make_quantised(tmp_path, SPECS["dense"], FORMS["fine-grained fp8"])
    spec = read_spec(meant)
    adapter = open_adapter("a", make_adapter(tmp_path / "adapter", spec, 1, r=4), read_spec(quantised), most_rank=16)
    assert tokens(quantised, adapter=adapter) == tokens(meant, adapter=adapter) != tokens(meant)
