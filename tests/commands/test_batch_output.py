"""What a batch writes to: never over what is not its own."""

import pytest

from muxjax.commands.batch.run_batch import Options, opened, run_through
from muxjax.errors import ConfigError
from tests.commands.test_run_batch import answers, ask, content, service, written

FOREIGN = [
    b"the only copy of a thesis, in one line",
    b'{"id":"chatcmpl-1","custom_id":"x"}',
    b'{"id":"muxjax-' + b"g" * 32,
    b'{"id":"muxjax-' + b"0" * 32 + b'","custom_id":"y","response":{"status_code":200',
    b'{"custom_id": "x", "error": null}\n{"id":"muxjax-' + b"0" * 32 + b'","custom_id":"z","resp',
    b'{"custom_id": "x", "error": null}\n{"custom_id": "y", "error": null}\n{"id":"mux',
    b"\x00" * 100,
    b"[" * 100_000 + b"\n",
]


@pytest.mark.parametrize("held", FOREIGN, ids=range(len(FOREIGN)))
def test_a_file_without_line_ends_that_is_none_of_ours_is_kept(tmp_path, held):
    (tmp_path / "out.jsonl").write_bytes(held)
    with pytest.raises(ConfigError, match=r"name another output file|the output of another file"):
        answers(tmp_path, [ask("x"), ask("y")], resume=True)
    assert (tmp_path / "out.jsonl").read_bytes() == held


@pytest.mark.parametrize("cut", [1, 14, 20, 46, 60, 70, 200])
def test_a_torn_last_line_of_ours_is_answered_again(tmp_path, cut):
    _, expected = answers(tmp_path, [ask("x"), ask("yé")], turn_s=0.0)
    first, second = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_bytes(first + second[:cut])
    code, told = answers(tmp_path, [ask("x"), ask("yé")], resume=True, turn_s=0.0)
    assert (code, content(told)) == (0, content(expected))


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("resume", [False, True])
def test_the_input_is_no_output(tmp_path, link, resume):
    source = written(tmp_path / "in.jsonl", [ask("x")])
    sink = tmp_path / "link" if link else source
    if link:
        sink.symlink_to(source)
    before = source.read_bytes()
    options = Options(input_file=str(source), output_file=str(sink), resume=resume)
    with pytest.raises(ConfigError, match="is the input file"), opened(options):
        pass
    assert source.read_bytes() == before


def test_a_device_is_written_to_as_a_pipe_is(tmp_path):
    source = written(tmp_path / "in.jsonl", [ask("x")])
    with opened(Options(input_file=str(source), output_file="/dev/null")) as batch:
        assert run_through(service(turn_s=0.0), batch, most_open=2) == 0
    with (
        pytest.raises(ConfigError, match="resume must be of an output file"),
        opened(Options(input_file=str(source), output_file="/dev/null", resume=True)),
    ):
        pass


def test_a_full_device_ends_the_batch_in_words(tmp_path):
    source = written(tmp_path / "in.jsonl", [ask("x")])
    options = Options(input_file=str(source), output_file="/dev/full")
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"), opened(options) as batch:
        run_through(service(turn_s=0.0), batch, most_open=2)
