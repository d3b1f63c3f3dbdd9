"""Drawn adapters over every golden model against today's peft; needs torch, transformers and peft."""

import json
import random

import jax
import jax.numpy as jnp
import pytest

from muxjax.models.lora import stacks
from muxjax.models.lora.files import matrices, open_adapter, read_adapter
from muxjax.models.weights import load
from muxjax.specs.adapter import CONFIG
from muxjax.specs.config import read_spec
from tests.models.adapter import make_adapter, make_base
from tests.models.golden import NAMES, worst_row
from tests.models.lora.test_adapters import LIMIT, logits_of

peft = pytest.importorskip("peft", reason="the reference of adapters")
transformers = pytest.importorskip("transformers", reason="the reference of models")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks transformers for it


@pytest.mark.parametrize("base", [name for name in NAMES if name != "internlm2"])  # which transformers lacks
def test_logits_are_those_of_the_merged_model(base, tmp_path):
    from tests.models.torch_reference import TorchModel

    draw = random.Random(base)
    spec = read_spec(make_base(base, tmp_path / "base"))
    names = {name for kind, tensor in matrices(spec).items() for name in tensor.names if kind in ("qkv", "o") or not spec.experts}
    modules = sorted(name.split(".")[-2] for name in names)
    rank = draw.randint(1, 8)
    fields = {"r": rank, "lora_alpha": draw.randint(1, 8), "use_rslora": draw.random() < 0.5}
    fields |= {"target_modules": draw.sample(modules, draw.randint(1, len(modules)))}
    folder = make_adapter(tmp_path / "adapter", spec, 5, **fields)
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype="float32")
    peft.PeftModel.from_pretrained(plain, str(folder)).merge_and_unload().save_pretrained(tmp_path / "merged")
    tokens = tuple(draw.randrange(spec.vocab) for _ in range(24))
    expected = TorchModel(tmp_path / "merged").logits(tokens)

    one = stacks.padded(read_adapter(open_adapter("a", folder, spec, most_rank=8), spec, most_rank=8), 8)
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stacks.shapes(spec, 2, 8))
    params = load(tmp_path / "base", spec, progress=False)
    actual = logits_of(spec, params, stacks.put(empty, one, jnp.int32(1)), 1, tokens)
    assert worst_row(actual, expected) < LIMIT, json.loads((folder / CONFIG).read_text())
