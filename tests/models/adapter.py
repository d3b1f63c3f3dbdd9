"""LoRA adapters whose weights come from a seed, and what peft said about them (made by scripts/make_adapter_goldens.py).

A golden folder holds adapter_config.json as peft writes it, and expected.npz: `prompt` and the greedy continuation `tokens` of the base
with the adapter merged into it, their `logits` [T, V] float32, and `base_tokens` of the base alone.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from muxjax.model_spec import ModelSpec
from muxjax.models.hf_weights import kinds
from muxjax.specs.adapter import CONFIG, WEIGHTS
from muxjax.specs.config import read_spec
from tests.models.golden import make_model, read_golden, seeded

FOLDER = Path(__file__).parent / "adapter_goldens"
SEED = 7
PLAIN: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
"""The least that an adapter's configuration says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterGolden:
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    base_tokens: tuple[int, ...]
    logits: np.ndarray


def read_adapter_golden(base: str) -> AdapterGolden:
    """Of the adapter over the golden model of that name."""
    with np.load(FOLDER / base / "expected.npz") as arrays:
        tokens = {name: tuple(arrays[name].tolist()) for name in ("prompt", "tokens", "base_tokens")}
        return AdapterGolden(**tokens, logits=arrays["logits"])


def make_base(base: str, folder: Path) -> Path:
    return make_model(base, folder, read_golden(base).seed)


def make_golden_adapter(base: str, folder: Path) -> Path:
    """Writes the adapter of a golden."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FOLDER / base / CONFIG, folder / CONFIG)
    config = json.loads((folder / CONFIG).read_text())
    spec = read_spec(make_base(base, folder / "base"))
    save_file(adapter_tensors(spec, config, SEED), folder / WEIGHTS)
    return folder


def make_adapter(folder: Path, spec: ModelSpec, seed: int, **fields: Any) -> Path:
    """Writes an adapter with fields of its configuration beyond PLAIN."""
    folder.mkdir(parents=True, exist_ok=True)
    config = PLAIN | fields
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(adapter_tensors(spec, config, seed), folder / WEIGHTS)
    return folder


def adapter_tensors(spec: ModelSpec, config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Both halves of each target, by peft's names, large enough to change most tokens."""
    matrices = {name: shape for kind in kinds(spec).values() for name, shape in kind.tensor_shapes.items() if len(shape) == 2}
    chosen = {name: shape for name, shape in matrices.items() if name.split(".")[-2] in config["target_modules"]}
    tensors = {}
    for name, (outputs, inputs) in chosen.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        for half, shape in (("lora_A", (config["r"], inputs)), ("lora_B", (outputs, config["r"]))):
            tensors[f"{stem}.{half}.weight"] = seeded(f"{stem}.{half}.weight", shape, seed)
    return tensors
