"""The server whose clocks are watched: three small models, and two clients with keys of their own."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, Tokenizer

from muxjax.demo.run import shipped
from muxjax.specs.config import to_hf_config
from muxjax.types import ModelSpec
from scripts import results
from scripts.clocks.attacks import LONG, LONG_TOKEN, LONG_TOKEN_TEXT, TEMPLATE, WORDS

NEIGHBOUR = "forest"
ATTACKER_KEY, NEIGHBOUR_KEY = "attacker", "neighbour"
_LONG_SPEC = ModelSpec(
    vocab=LONG_TOKEN + 1, width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, max_len=1024, windows=(None, None), dtype="float32"
)


class Watched(NamedTuple):
    """A server that is ready.

    Args:
      process: its number.
    """

    address: str
    process: int


@contextlib.contextmanager
def serving(folder: Path, *, body_bytes: int) -> Iterator[Watched]:
    """Started in a process of its own, which ends with the block.

    Args:
      folder: an empty one, for its files.
    Raises:
      SystemExit: it does not start.
    """
    log, command = folder / "log", [sys.executable, "-u", "-m", "muxjax", "serve", str(_configuration(folder, body_bytes))]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    with (
        log.open("w") as file,
        subprocess.Popen(command, cwd=results.ROOT, env=environment, stdout=subprocess.PIPE, stderr=file, text=True) as process,
    ):
        try:
            told = next((line for line in process.stdout or () if line.startswith("http://")), None)
            if told is None:
                raise SystemExit(f"the server did not start: {log.read_text()[-2000:]}")
            yield Watched(told.strip().removesuffix("/v1"), process.pid)
        finally:
            process.kill()


def _configuration(folder: Path, body_bytes: int) -> Path:
    """Two of the demo's models, one with the template of the attacks, and one with random weights and more room."""
    farm, forest, _ = shipped()
    template, long = folder / "filters.jinja", folder / LONG
    template.write_text(TEMPLATE)
    long.mkdir()
    (long / "config.json").write_text(json.dumps(to_hf_config(_LONG_SPEC)))
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
