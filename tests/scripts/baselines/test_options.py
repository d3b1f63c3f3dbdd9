"""Options of the baselines: how large a cache is, and what answers are told in."""

import argparse

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from muxjax.demo.run import shipped
from scripts.baselines import options, server, static_cache, transformers_batching
from tests.scripts.baselines.models import save_model

TOKEN_BYTES = 2 * 3 * 2 * 8 * 4
"""Of the model that is saved."""
CPU = torch.device("cpu")


def arguments(*flags):
    parser = argparse.ArgumentParser(conflict_handler="resolve")  # both have --attention
    for module in (options, static_cache, transformers_batching):
        module.add_arguments(parser)
    return parser.parse_args(list(flags))


@pytest.fixture
def sized(tmp_path):
    save_model(tmp_path, "llama")

    def of(cache_bytes):
        args = arguments(f"tiny={tmp_path}", "--max-model-len=64", "--max-num-seqs=5", "--kv-cache-size", str(cache_bytes))
        return args, options.model(args).spec

    return of


@pytest.mark.parametrize("rows, served", [(1, 1), (3, 3), (100, 5)])
def test_a_cache_of_that_size_has_as_many_rows_as_fit(sized, rows, served):
    args, spec = sized(rows * 64 * TOKEN_BYTES)
    assert options.token_bytes(spec) == TOKEN_BYTES
    assert static_cache.fitting_rows(args, spec, CPU) == served


@pytest.mark.parametrize("pages", [1, 7])
def test_a_cache_of_that_size_has_as_many_pages_as_fit(sized, pages):
    args, spec = sized(pages * 256 * TOKEN_BYTES + 1)
    assert transformers_batching.config(args, spec, CPU).num_blocks == pages


def test_a_cache_without_room_is_refused(sized):
    args, spec = sized(64 * TOKEN_BYTES - 1)
    with pytest.raises(ValueError, match="no room for a row"):
        static_cache.fitting_rows(args, spec, CPU)
    with pytest.raises(ValueError, match="no room for 256 tokens"):
        transformers_batching.config(args, spec, CPU)


def test_sizes_are_as_of_serve(capsys):
    assert arguments("m", "--kv-cache-size", "16GiB").kv_cache_size == 2**34
    with pytest.raises(SystemExit):
        arguments("m", "--kv-cache-size", "much")
    assert "must be a size such as 512MiB or 16GiB" in capsys.readouterr().err


def test_answers_are_words_where_there_is_a_tokenizer(tmp_path):
    text = options.text_of(next(iter(shipped())))
    assert text([20, 21], [30, 31, 32]).isprintable() and text([20], [30]) != server.numbers([20], [30])
    assert options.text_of(tmp_path)([1], [2, 3]) == " 2 3"
