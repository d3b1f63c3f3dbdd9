"""What transformers computes from a Hugging Face folder; needs torch."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.models.internlm2 import MODEL_TYPE as INTERNLM2
from tests.models.internlm2 import as_llama, read_config

torch.set_num_threads(1)  # models this small only wait for further threads


class TorchModel:
    """float32, plain attention, no cache: the meaning, not the speed; with what transformers is told besides."""

    def __init__(self, folder: Path, **options: Any):
        if read_config(folder)["model_type"] == INTERNLM2:
            folder = as_llama(folder, Path(tempfile.mkdtemp()))
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **options
        )
        self._model = model.eval()
        self.mismatched = tuple(sorted(str(name) for kind in report.values() for name in kind))
        """Tensors missing, unexpected or of another shape."""

    def logits(self, tokens: tuple[int, ...]) -> np.ndarray:
        """[T, V] float32."""
        with torch.no_grad():
            return self._model(torch.tensor([tokens]), use_cache=False).logits[0].numpy()

    def greedy(self, prompt: tuple[int, ...], count: int, *, margin: float = 0.0) -> tuple[int, ...] | None:
        """None as soon as the two best logits are closer than margin, as a part of the largest."""
        tokens = prompt
        for _ in range(count):
            row = self.logits(tokens)[-1]
            second, best = np.partition(row, -2)[-2:]
            if best - second < margin * np.abs(row).max():
                return None
            tokens += (int(row.argmax()),)
        return tokens[len(prompt) :]
