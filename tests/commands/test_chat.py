import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from muxjax.__main__ import main
from muxjax.commands.client.chat import Chat
from muxjax.commands.client.chat_client import ChatClient
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.fakes import FakeEngine
from tests.server.kit import served

TEMPLATE = "{% for message in messages %}[{{ message.role }}:{{ message.content }}]{% endfor %}"


class Server:
    """Models that say back the whole conversation as their template writes it."""

    def __init__(self, engine: FakeEngine, url: str):
        self.engine, self.url = engine, url

    @property
    def heard(self) -> list[str]:
        return [bytes(request.prompt).decode() for request in self.engine.submitted]


@contextlib.contextmanager
def serving(**engine_options) -> Iterator[Server]:
    template = ChatTemplate(TEMPLATE, {})
    models = [served(ByteTokenizer(300), name, template=template, max_model_len=400) for name in ("first", "org/second")]
    echo = {"reply": lambda request, k: 1 if k == len(request.prompt) else request.prompt[k]}
    engine = FakeEngine(["first", "org/second"], **(echo | engine_options))
    with in_background(Service(engine, Catalog([*models, served(ByteTokenizer(300), "plain", template=None)])), HttpOptions(port=0)) as url:
        yield Server(engine, url)


def piped(server: Server, text: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "muxjax", "chat", "--url", server.url, *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def test_piped_questions_are_answered_with_all_that_was_said_before():
    with serving() as server:
        ran = piped(server, "hello\n\nyou\n")

    assert (ran.returncode, ran.stderr) == (0, "")
    assert server.heard == ["[user:hello]", "[user:hello][assistant:[user:hello]][user:you]"]
    assert ran.stdout == "".join(text + "\n" for text in server.heard)


def test_models_are_listed_and_switched_and_keep_the_conversation():
    with serving() as server:
        ran = piped(server, "/models\nhello\n/model org/second\nyou\n/models\n/model none\n")

    assert [request.model for request in server.engine.submitted] == ["first", "org/second"]
    assert server.heard[1].startswith("[user:hello][assistant:")
    assert ran.stdout.startswith("* first\n  org/second\n  plain\n")
    assert ran.stdout.endswith("  first\n* org/second\n  plain\n")
    assert ran.stderr == "error: there is no model 'none', but first, org/second, plain\n"


def test_instructions_stay_and_a_conversation_is_cleared():
    with serving() as server:
        ran = piped(server, "/system be short\nhello\n/clear\nyou\n/system\n/clear\nthey\n/nonsense\n")

    assert server.heard == ["[system:be short][user:hello]", "[system:be short][user:you]", "[user:they]"]
    assert "/model NAME" in ran.stdout.splitlines()[-6]


@pytest.mark.parametrize("word", ["/exit", "/quit", "/bye"])
def test_a_word_leaves_and_nothing_after_it_is_asked(word):
    with serving() as server:
        ran = piped(server, f"hello\n{word}\nyou\n")

    assert (ran.returncode, ran.stdout) == (0, "[user:hello]\n")
    assert server.heard == ["[user:hello]"]


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_the_address_of_the_server_does_as_well_as_that_of_its_api(ending):
    with serving() as server:
        root = server.url.removesuffix("/v1")
        assert ChatClient(root + ending).models() == ["first", "org/second", "plain"]


def test_an_error_of_the_server_is_told_and_the_conversation_goes_on():
    with serving() as server:
        ran = piped(server, "/model plain\nhello\n/model first\nyou\n")

    assert server.heard == ["[user:you]"]
    assert ran.stderr.startswith("error: The model `plain` has no chat template")
    assert ran.returncode == 1


class EvilClient(ChatClient):
    def answer(self, model, messages):
        yield from ("\x1b[2Jred", "\x07\x9b\r\n\tok")


def test_an_answer_cannot_steer_the_terminal(capsys):
    Chat(EvilClient("http://none"), "first").follow(iter(["hi"]))
    assert capsys.readouterr().out == "[2Jred\n\tok\n"


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["--url", "http://127.0.0.1:1/v1"], "no server at http://127.0.0.1:1/v1: "),
        (["--url", "ftp://x"], "the address must begin with http:// or https://, got 'ftp://x'"),
    ],
)
def test_no_server_is_one_line_and_code_2(capsys, arguments, problem):
    assert main(["chat", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"muxjax: {problem}")
    assert err.count("\n") == 1


def test_a_model_that_is_not_there_is_refused(capsys):
    with serving() as server:
        assert main(["chat", "--url", server.url, "--model", "third"]) == 2
    assert capsys.readouterr().err == "muxjax: the server has no model 'third', but first, org/second, plain\n"


def hear_interrupts() -> None:
    """What a shell starts in the background ignores them, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def terminal(server: Server) -> Iterator[tuple[subprocess.Popen, int]]:
    """The command in a terminal, and the terminal's other end."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "muxjax", "chat", "--url", server.url]
    environment = os.environ | {"TERM": "dumb"}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True, preexec_fn=hear_interrupts
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(end: int, mark: str) -> str:
    said = ""
    while mark not in said:
        assert select.select([end], [], [], 60)[0], f"no {mark!r} in {said!r}"
        said += os.read(end, 4096).decode()
    return said


def test_in_a_terminal_ctrl_c_stops_an_answer_and_ctrl_d_leaves():
    endless = {"reply": lambda request, k: 65, "turn_s": 0.1}  # half a minute long
    with serving(**endless) as server, terminal(server) as (process, end):
        read_until(end, "first> ")
        os.write(end, b"hello\n")
        read_until(end, "AAAA")
        process.send_signal(signal.SIGINT)
        assert "[stopped]" in read_until(end, "first> ")
        assert wait_for(lambda: server.engine.live == 0)
        os.write(end, b"again\n")
        read_until(end, "AAAA")
        process.send_signal(signal.SIGINT)
        read_until(end, "first> ")
        os.write(end, b"\x04")
        assert process.wait(timeout=60) == 0
        assert "[user:hello][assistant:AAAA" in server.heard[1]


def wait_for(holds) -> bool:
    for _ in range(6000):
        if holds():
            return True
        time.sleep(0.01)
    return False
