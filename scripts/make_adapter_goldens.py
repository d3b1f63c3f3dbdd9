"""What does peft compute with an adapter merged into its base? Writes tests/models/adapter_goldens (needs torch, transformers and peft).

python -m scripts.make_adapter_goldens
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from muxjax.specs.adapter import CONFIG
from tests.models.adapter import FOLDER, make_base, make_golden_adapter
from tests.models.torch_reference import TorchModel

TOKENS = 40
SMALLEST_MARGIN = 3e-4
"""As in `make_goldens`."""
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "llama3_scaled": {"r": 8, "lora_alpha": 16, "target_modules": ALL},
    "qwen2": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    "phi3": {"r": 6, "lora_alpha": 9, "target_modules": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]},
    "gemma2": {"r": 5, "lora_alpha": 5, "target_modules": ["k_proj", "o_proj", "up_proj", "down_proj"]},
}
"""By the golden model that each is over."""


def main() -> None:
    for base, fields in ADAPTERS.items():
        folder = FOLDER / base
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, fields)
        expected = expectations(base)
        np.savez_compressed(folder / "expected.npz", **expected)
        print(
            f"{base}: {len(expected['tokens'])} tokens, {np.count_nonzero(expected['tokens'] != expected['base_tokens'])} unlike the base's"
        )


def write_config(folder: Path, fields: dict[str, Any]) -> None:
    """adapter_config.json as this version of peft writes it."""
    LoraConfig(task_type="CAUSAL_LM", **fields).save_pretrained(str(folder))
    config = json.loads((folder / CONFIG).read_text())
    config["target_modules"] = sorted(config["target_modules"])  # a set, in any order
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def expectations(base: str) -> dict[str, Any]:
    """The arrays of a golden (see tests/models/adapter.py), of a prompt for which rounding decides no token."""
    with tempfile.TemporaryDirectory() as temporary:
        base_folder, adapter, merged = (Path(temporary) / name for name in ("base", "adapter", "merged"))
        make_base(base, base_folder)
        make_golden_adapter(base, adapter)
        plain = AutoModelForCausalLM.from_pretrained(base_folder, dtype="float32")
        PeftModel.from_pretrained(plain, str(adapter)).merge_and_unload().save_pretrained(merged)
        model, alone = TorchModel(merged), TorchModel(base_folder)
        for seed in range(100):
            prompt = tuple(np.random.RandomState(seed).randint(0, 160, 23).tolist())
            tokens = model.greedy(prompt, TOKENS, margin=SMALLEST_MARGIN)
            base_tokens = alone.greedy(prompt, TOKENS, margin=SMALLEST_MARGIN)
            if tokens and base_tokens:
                arrays = {"prompt": prompt, "tokens": tokens, "base_tokens": base_tokens}
                return {name: np.array(array, np.int16) for name, array in arrays.items()} | {"logits": model.logits(prompt + tokens)}
    raise AssertionError(f"rounding could decide a token of every prompt of {base}")


if __name__ == "__main__":
    main()
