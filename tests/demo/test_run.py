"""The demo as a user runs it."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from muxjax.demo.ask import questions, story
from muxjax.demo.board import Board, Row
from muxjax.demo.items import Item
from muxjax.demo.run import SEED, demo_options, shipped
from muxjax.demo.worlds import WORLDS

ITEM = Item(kind="story", messages=({"role": "user", "content": "A cow ate. Who ate?"},), answer="The cow ate.")


@pytest.mark.parametrize("world", WORLDS.values(), ids=list(WORLDS))
def test_the_script_asks_about_the_story_and_about_the_model(world):
    told = story(world, SEED)
    asked = questions(world, told, SEED)
    assert sum(item.messages[0]["content"].startswith(told.text) for item in asked) == len(told.questions)
    assert any(world.name in item.answer for item in asked)


def test_the_arena_is_too_small_for_all_conversations_at_once():
    options = demo_options(shipped())
    assert options.kv_cache_bytes == 512 * options.block_bytes


def test_a_terminal_shows_each_answer_growing_in_its_line():
    out = io.StringIO()
    rows = [Row(model="farm", item=ITEM), Row(model="sea", item=ITEM)]
    board = Board(rows, out, live=True)
    rows[0].answer = "The"
    board.show(rows[0])
    rows[1].answer, rows[1].ended_s = "The crab", 0.5
    board.show(rows[1])
    written = out.getvalue()
    assert "\033[2A\r\033[2K  farm           Who ate?  The" in written
    assert "\033[1A\r\033[2K  sea     WRONG  Who ate?  The crab  (expected: The cow ate.)" in written


def test_elsewhere_a_line_comes_when_its_answer_is_whole():
    out = io.StringIO()
    row = Row(model="farm", item=ITEM, answer="The cow")
    board = Board([row], out)
    board.show(row)
    assert out.getvalue() == ""
    row.answer, row.ended_s = "The cow ate.", 0.5
    board.show(row)
    assert out.getvalue().split() == ["farm", "right", "Who", "ate?", "The", "cow", "ate."]


def test_the_whole_demo_and_its_curl_line():
    command = [sys.executable, "-u", "-m", "muxjax", "demo", "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"}) as demo:
        assert demo.stdout
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if line.lstrip().startswith("curl "):
                break
        answered = json.loads(subprocess.run(shlex.split(lines[-1]), capture_output=True, check=True).stdout)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=60) == 0
    text = "".join(lines)
    asked = sum(len(questions(world, story(world, SEED), SEED)) for world in WORLDS.values())
    assert answered["choices"][0]["message"]["content"] == "I am the farm model."
    assert f"{asked} of {asked} answers are right" in text
    shares = dict(re.findall(r"(farm|forest|sea) (\d+)%", text))
    assert set(shares) == set(WORLDS)
    assert all(0 < int(share) < 100 for share in shares.values())
