"""A cluster of two devices for two models, as users write it down."""

from pathlib import Path

from muxjax.placement.problem import Placed

PROBLEM = """
cluster: {chip: H200, nodes: 1, devices_per_node: 2}
models:
  - {name: a, shape: llama-3.2-1b, rate: 4, prompt_tokens: 50, output_tokens: 20}
  - {name: b, shape: llama-3.1-8b, rate: 1, prompt_tokens: 80, output_tokens: 10}
"""


def placed(model: str, *devices: int, rate_rps: float = 1.0) -> Placed:
    return Placed(model=model, rate_rps=rate_rps, devices=devices)


def write_problem(folder: Path) -> Path:
    (folder / "problem.yaml").write_text(PROBLEM)
    return folder / "problem.yaml"
