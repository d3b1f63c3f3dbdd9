"""What does it cost the demo models to have their matrices rounded to fp8 while they are loaded, and activations of prompts, too?

python -m scripts.check_quantization
"""

from itertools import islice
from pathlib import Path
from typing import Any

from muxjax.demo.check import perplexity
from muxjax.demo.items import items
from muxjax.demo.recipes import RECIPES
from muxjax.demo.run import shipped
from muxjax.engine.model.plan import ITEM_BYTES
from muxjax.quantization import QUANTIZATIONS
from muxjax.specs.config import read_spec
from scripts import results

QUESTION = "quantization"
ITEMS, SEED = 400, 0
_FORMS = {"as stored": None, **{f"`quantization: {wish}`": wish for wish in QUANTIZATIONS}}


def main() -> None:
    runs = [
        results.run_record(device=results.host(), config={"model": folder.name, "items": ITEMS}, seed=SEED, values=values(folder))
        for folder in shipped()
    ]
    results.write_runs(QUESTION, "demo", runs)
    results.write_readme(QUESTION, page(results.read_runs(QUESTION)))


def values(folder: Path) -> dict[str, Any]:
    """Perplexity and bytes of a model in each form."""
    asked = list(islice(items(RECIPES[folder.name].world, SEED), ITEMS))
    found = {}
    for name, quantization in _FORMS.items():
        spec = read_spec(folder, quantization=quantization)
        size = int(spec.weight_bytes(ITEM_BYTES[spec.dtype]))
        found[name] = {"perplexity": perplexity(folder, asked, quantization=quantization), "bytes": size, "dtype": spec.dtype}
    return found


def page(runs: list[dict[str, Any]]) -> str:
    rows = []
    for run in runs:
        whole, *narrow = (run["values"][name] for name in _FORMS)
        told = [f"{each['perplexity']:.4f} ({each['perplexity'] / whole['perplexity'] - 1:+.2%})" for each in narrow]
        rows.append([run["config"]["model"], f"{whole['perplexity']:.4f}", *told, f"{narrow[0]['bytes'] / whole['bytes']:.2f} x"])
    head = ["model", *(f"perplexity, {name}" for name in _FORMS), "bytes of weights"]
    count = runs[0]["config"]["items"]
    return f"""
# What does it cost the demo models to have their matrices rounded to fp8?

`python -m scripts.check_quantization`

Perplexity of the right answers to {count} questions that training never showed, after their conversations. It is near 1, as the models are
nearly certain of them. Answers are computed as prompts are, so that `fp8_w8a8` rounds the activations of all tokens.

{results.table(head, rows)}
"""


if __name__ == "__main__":
    main()
