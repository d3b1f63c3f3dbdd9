"""What does transformers make of chat templates, and of the tokens of folders? Writes goldens of both (needs transformers).

python -m scripts.make_text_goldens
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import transformers

from tests.server.text.idioms import IDIOMS
from tests.server.text.transformers_templates import render
from tests.specs.test_tokens import FOLDERS, theirs, write


def main() -> None:
    prompts = {name: render(idiom) for name, idiom in IDIOMS.items()}
    _save(Path("tests/server/text/goldens/templates.json"), "prompts", prompts)
    print(f"{len(prompts)} idioms, {sum(prompt is None for prompt in prompts.values())} of them refused")
    tokens = {}
    for name, files in FOLDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            tokens[name] = theirs(write(Path(folder), files))
    _save(Path("tests/specs/goldens/tokens.json"), "folders", tokens)
    print(f"{len(tokens)} folders")


def _save(path: Path, name: str, values: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"transformers": transformers.__version__, name: values}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
