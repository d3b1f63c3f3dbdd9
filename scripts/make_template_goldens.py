"""What does transformers make of chat templates' idioms? Writes tests/server/text/goldens/templates.json (needs transformers).

python -m scripts.make_template_goldens
"""

import json
from pathlib import Path

import transformers

from tests.server.text.idioms import IDIOMS
from tests.server.text.transformers_templates import render

PATH = Path("tests/server/text/goldens/templates.json")


def main() -> None:
    prompts = {name: render(idiom) for name, idiom in IDIOMS.items()}
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(json.dumps({"transformers": transformers.__version__, "prompts": prompts}, indent=1, ensure_ascii=False) + "\n")
    print(f"{PATH}: {len(prompts)} idioms, {sum(prompt is None for prompt in prompts.values())} of them refused")


if __name__ == "__main__":
    main()
