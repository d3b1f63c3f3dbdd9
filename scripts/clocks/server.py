"""The server whose clocks are watched: three small models, and two clients with keys of their own."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from muxjax.demo.run import shipped
from muxjax.model_spec import ModelSpec
from muxjax.specs.dummy import write_dummy_models
from scripts import served
from scripts.clocks.attacks import LONG, LONG_TOKEN, LONG_TOKEN_TEXT, TEMPLATE, WORDS
from scripts.served import Served

NEIGHBOUR = "forest"
ATTACKER_KEY, NEIGHBOUR_KEY = "attacker", "neighbour"
_LONG_SPEC = ModelSpec(
    vocab=LONG_TOKEN + 1, width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, max_len=1024, windows=(None, None), dtype="float32"
)


@contextlib.contextmanager
def serving(folder: Path, *, body_bytes: int) -> Iterator[Served]:
    """Started in a process of its own, which ends with the block.

    Args:
      folder: an empty one, for its files.
    Raises:
      SystemExit: it does not start.
    """
    with served.serving(_configuration(folder, body_bytes)) as server:
        yield server


def _configuration(folder: Path, body_bytes: int) -> Path:
    """Two of the demo's models, one with the template of the attacks, and one with random weights and more room."""
    farm, forest, _ = shipped()
    template, long = folder / "filters.jinja", write_dummy_models(folder, {LONG: _LONG_SPEC})[LONG]
    template.write_text(TEMPLATE)
    tokenizer = Tokenizer.from_file(str(farm / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(LONG_TOKEN_TEXT, normalized=False)])
    tokenizer.save(str(long / "tokenizer.json"))
    models = [
        {"name": WORDS, "path": str(farm), "chat_template": str(template)},
        {"name": NEIGHBOUR, "path": str(forest)},
        {"name": LONG, "path": str(long), "load_format": "dummy"},
    ]
    unit = {"kv_cache_size": "16MiB", "block_bytes": 2048, "max_num_batched_tokens": 256, "wait_for_all": True}
    keys = [hashlib.sha256(key.encode()).hexdigest() for key in (ATTACKER_KEY, NEIGHBOUR_KEY)]
    http = {"port": 0, "max_body_size": body_bytes, "api_keys": keys}
    path = folder / "clocks.yaml"
    path.write_text(json.dumps({**unit, **http, "models": [{**model, "max_num_seqs": 64} for model in models]}))
    return path
