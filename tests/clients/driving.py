"""A server that talks like a model that knows tools, and the clients that are driven against it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from muxjax.server.answers.dialect import dialect_of
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.tokenizer import HfTokenizer
from muxjax.types import Pooling, Request
from tests.clients.features import MODEL, PERSON, SUN, TEXT
from tests.fakes import FakeEngine
from tests.server.answers.words import TOKENS
from tests.server.kit import EOS, served

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = Path(os.environ.get("MUXJAX_CLIENTS", ROOT / ".venv-clients"))
"""Virtual environment of the clients, which `make clients` makes."""
TEMPLATE = (
    "{% for tool in tools or [] %}<tool_call>{{ tool.function.name }};{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}"
)
LENGTH = 2**17
TIMEOUT_S = 300.0


class Client(NamedTuple):
    """One of them.

    Args:
      name: for people; command: what drives it, without the URL; empty if it is not here.
    """

    name: str
    command: Sequence[str]


def clients() -> list[Client]:
    """All of them; those of Python in the clients' environment, and what the tests' own has too, in that where the other is not there."""
    python = ENVIRONMENT / "bin" / "python"
    here = str(python) if python.exists() else ""
    names = {
        "openai (Python)": ("openai", here or sys.executable),
        "anthropic": ("anthropic", here or sys.executable),
        **{name: (name.replace("-", "_"), here) for name in ("openai-agents", "pydantic-ai", "langchain-openai", "instructor", "litellm")},
    }
    found = [Client(name, (path, str(HERE / f"drive_{script}.py")) if path else ()) for name, (script, path) in names.items()]
    node = shutil.which("node") if (HERE / "npm" / "node_modules").is_dir() else None
    return [found[0], Client("openai (npm)", (node, str(HERE / "npm" / "drive.mjs")) if node else ()), *found[1:]]


@contextmanager
def talking(folder: Path) -> Iterator[str]:
    """The URL of a server whose model says what `features` tells."""
    path = folder / "tokenizer.json"
    TOKENS.ours.save(str(path))
    tokenizer = HfTokenizer(path)
    model = served(
        tokenizer,
        MODEL,
        template=ChatTemplate(TEMPLATE, {}, name="chat.jinja"),
        dialect=dialect_of(TEMPLATE, tokenizer.marks, ends=[EOS]),
        pooling=Pooling.LAST,
        max_model_len=LENGTH,
    )
    said: dict[str, list[int]] = {}

    def reply(request: Request, k: int) -> int:
        if request.id not in said:
            prompt = tokenizer.decode(request.prompt, special=True)
            said[request.id] = [*TOKENS.ours.encode(answer(prompt, in_form=request.sampling.grammar is not None)).ids, EOS]
        return said[request.id][k]

    engine = FakeEngine([MODEL], reply=reply, turn_s=0.0002)
    with in_background(Service(engine, Catalog([model])), HttpOptions(port=0)) as url:
        yield url


def answer(prompt: str, *, in_form: bool) -> str:
    """What the model says: it asks for the weather once, calls another tool with a person, and else says its text, or a person."""
    tools = [part.partition(";")[0] for part in prompt.partition("<")[2].split("tool_call>")[1:]]
    told = "<tool>" in prompt
    if "weather" in tools and not told:
        return calling("weather", {"city": "Rome"})
    others = [tool for tool in tools if tool != "weather"]
    if others:
        return calling(others[0], PERSON)
    if told:
        return SUN
    return json.dumps(PERSON) if in_form else TEXT


def calling(name: str, arguments: Mapping[str, object]) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'


def driven(client: Client, url: str) -> dict[str, str]:
    """What came of each of the client's features: an empty text where all was right.

    Raises:
      AssertionError: it told of nothing.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENAI", "ANTHROPIC"))}
    command = [*client.command, url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, cwd=HERE, check=False)
    lines = ran.stdout.strip().splitlines()
    assert ran.returncode == 0 and lines, f"{client.name}: {ran.stderr[-2000:]}"
    return json.loads(lines[-1])
