import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from muxjax.deep_stack import on_deep_stack
from tests.engine.controls import tokenizer

ROOT = Path(__file__).parents[1]
PROGRAM = """
import json, sys, threading
from muxjax.engine.grammar import Grammars
from muxjax.server.json_schema.follow import followed
from muxjax.server.openai.grammar import checked
from muxjax.types import Grammar, GrammarKind

kind, text, tokenizer = json.load(sys.stdin)
grammar = Grammar(kind=GrammarKind(kind), text=text)

def run():
    if kind == "json_schema":
        followed(json.loads(text), "schema")
    else:
        checked(grammar, "grammar")
    Grammars(tokenizer, vocab=70, eos_ids=[]).matcher(grammar).bits()
    print("compiled")

thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def chain(link, length: int) -> str:
    """Definitions, each of which leads to the next."""
    definitions = {f"t{place}": link({"$ref": f"#/$defs/t{place + 1}"}) for place in range(length)}
    return json.dumps({"$ref": "#/$defs/t0", "$defs": {**definitions, f"t{length}": {"type": "null"}}})


LONG = {
    "references": ("json_schema", chain(lambda ref: ref, 3500)),
    "members": ("json_schema", chain(lambda ref: {"properties": {"x": ref}}, 2200)),
    "nested items": ("json_schema", chain(lambda ref: {"items": {"items": {"items": {"items": {"items": {"items": ref}}}}}}, 700)),
    "rules": ("lark", "start: r0\n" + "".join(f"r{place}:r{place + 1}\n" for place in range(9000)) + 'r9000:"a"'),
    "terminals": ("lark", "start: T0\n" + "".join(f'T{place}:"b"T{place + 1}\n' for place in range(7000)) + 'T7000:"a"'),
}


@pytest.mark.parametrize(("kind", "text"), LONG.values(), ids=LONG)
def test_no_grammar_that_is_small_enough_ends_the_process(kind, text):
    """Each of them did, in a thread with the usual stack."""
    assert len(text) <= 2**17
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([kind, text, tokenizer()]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "compiled\n"), done.stderr[-500:]


def test_a_deep_call_gives_and_raises_as_another():
    assert on_deep_stack(lambda: 5, 10) == on_deep_stack(lambda: 5, 10_000) == 5
    with pytest.raises(ValueError, match="no"):
        on_deep_stack(lambda: int("no"), 10_000)


def test_other_threads_keep_the_usual_stack():
    before = threading.stack_size()
    on_deep_stack(lambda: None, 100_000)
    assert threading.stack_size() == before
