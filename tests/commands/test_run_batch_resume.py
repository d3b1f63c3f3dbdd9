"""What `run-batch --resume` takes for answers of its own, and what it leaves alone."""

import json
from typing import Any

import pytest

from muxjax.__main__ import main
from muxjax.errors import ConfigError
from tests.commands.test_run_batch import answers, ask, written

ANSWER: dict[str, Any] = {
    "id": f"muxjax-{'0' * 32}",
    "custom_id": "x",
    "response": {"status_code": 200, "request_id": "0" * 32, "body": {"choices": []}},
    "error": None,
}
REFUSAL = ANSWER | {
    "response": {"status_code": 400, "request_id": "0" * 32, "body": {"error": {}}},
    "error": {"code": "invalid_request", "message": "no"},
}


def line_of(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode() + b"\n"


FOREIGN = {
    "no JSON": b"no answer\n",
    "nothing": b"\n",
    "no object": b"[1]\n",
    "nested too deep": b"[" * 100_000 + b"\n",
    "a request": json.dumps(ask("x")).encode() + b"\n",
    "what merely has an id": line_of({"custom_id": "x", "error": None}),
    "an answer of OpenAI's": line_of(ANSWER | {"id": "batch_req_1"}),
    "an answer with more": line_of(ANSWER | {"note": "mine"}),
    "an answer with less": line_of({name: value for name, value in ANSWER.items() if name != "error"}),
    "other keys first": line_of(dict(reversed(ANSWER.items()))),
    "another's number": line_of(ANSWER | {"id": "muxjax-" + "1" * 32}),
    "no body": line_of(ANSWER | {"response": {"status_code": 200, "request_id": "0" * 32}}),
    "a refusal without error": line_of(REFUSAL | {"error": None}),
    "an answer with error": line_of(ANSWER | {"error": REFUSAL["error"]}),
    "another error": line_of(REFUSAL | {"error": {"message": "no", "code": "invalid_request"}}),
    "a number as id": line_of(ANSWER | {"custom_id": 5}),
    "the beginning of any object": b"{",
    "a line of theirs without an end": line_of({"custom_id": "x", "error": None})[:-1],
    "a request without an end": json.dumps(ask("x")).encode(),
}


@pytest.mark.parametrize("held", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_run_batch_did_not_write_is_not_touched(tmp_path, held):
    (tmp_path / "out.jsonl").write_bytes(held)
    with pytest.raises(ConfigError, match="line 1 is none of the answers that run-batch writes: name another output file"):
        answers(tmp_path, [ask("x")], resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == held


@pytest.mark.parametrize("line", [ANSWER, REFUSAL])
def test_lines_of_others_behind_answers_are_kept(tmp_path, line):
    held = line_of(line) + line_of({"custom_id": "y", "error": None})
    (tmp_path / "out.jsonl").write_bytes(held)
    with pytest.raises(ConfigError, match="line 2 is none of the answers"):
        answers(tmp_path, [ask("x"), ask("y")], resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == held
    (tmp_path / "out.jsonl").write_bytes(line_of(line))
    assert answers(tmp_path, [ask("x")], resume=True) == (int(line is REFUSAL), [line])


@pytest.mark.parametrize(
    "held, problem",
    [
        (line_of(ANSWER | {"custom_id": "y"}), "line 1 answers 'y' where the input asks 'x'"),
        (line_of(ANSWER) * 2, "line 2 answers more than the input asks"),
    ],
)
def test_the_output_of_another_batch_is_not_touched(tmp_path, held, problem):
    (tmp_path / "out.jsonl").write_bytes(held)
    with pytest.raises(ConfigError, match=problem):
        answers(tmp_path, [ask("x")], resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == held


@pytest.mark.parametrize("held, code", [([ANSWER], 0), ([REFUSAL], 1), ([], 0)], ids=["answered", "failed", "asked nothing"])
def test_with_nothing_left_to_answer_no_model_is_loaded(tmp_path, capsys, monkeypatch, held, code):
    def load(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("muxjax.commands.batch.run_batch.build_service", load)
    source, sink = written(tmp_path / "in.jsonl", [ask("x") for _ in held]), written(tmp_path / "out.jsonl", held)
    answered = sink.read_bytes()
    assert main(["run-batch", "-i", str(source), "-o", str(sink), "--resume", f"a={tmp_path}"]) == code
    assert capsys.readouterr().err == f"nothing is left to answer: {len(held)} lines, {code} failed\n"
    assert sink.read_bytes() == answered
    with pytest.raises(AssertionError, match="a model was loaded"):  # of one line more
        main(["run-batch", "-i", str(written(source, [ask("x"), ask("y")])), "-o", str(sink), "--resume", f"a={tmp_path}"])
