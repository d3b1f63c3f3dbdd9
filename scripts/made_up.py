"""A made-up model, for servers whose engine makes tokens up as well: a real tokenizer, and a shape that nothing is computed of."""

import time

from muxjax.cache.layout import CacheLayout
from muxjax.demo.run import shipped
from muxjax.model_spec import ModelSpec
from muxjax.server.catalog import ServedModel
from muxjax.server.sampling_defaults import SamplingDefaults
from muxjax.server.text.tokenizer import HfTokenizer

VOCAB = 512
LAYOUT = CacheLayout(windows=(None,), kv_heads=1, head_dim=8, element_bytes=4)


def tokenizer() -> HfTokenizer:
    return HfTokenizer(shipped()[0] / "tokenizer.json")


def model() -> ServedModel:
    """Called m."""
    shape = ModelSpec(vocab=VOCAB, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, ffn=8, max_len=2**20, windows=(None,))
    return ServedModel(
        name="m",
        tokenizer=tokenizer(),
        template=None,
        defaults=SamplingDefaults(),
        spec=shape,
        max_model_len=2**20,
        created=int(time.time()),
    )
