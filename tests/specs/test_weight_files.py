"""What the headers of weights say where config.json does not, and headers that are not what they must be."""

import json
import logging

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from muxjax.errors import CheckpointError
from muxjax.specs import weight_files
from muxjax.specs.config import read_spec
from muxjax.specs.weight_files import INDEX, SINGLE, equal_bytes, read_headers
from tests.specs.test_config import LLAMA, without

TIED = LLAMA | {"tie_word_embeddings": True}
EMBEDDING = np.arange(128 * 64, dtype=np.float32).reshape(128, 64)


@pytest.fixture
def read(tmp_path):
    def write_and_read(config, tensors, **options):
        (tmp_path / "config.json").write_text(json.dumps(config))
        save_file(tensors, tmp_path / SINGLE)
        return read_spec(tmp_path, **options)

    return write_and_read


@pytest.mark.parametrize(("stored", "name"), [(ml_dtypes.bfloat16, "bfloat16"), (np.float16, "float16"), (np.float32, "float32")])
def test_a_config_without_a_dtype_takes_that_of_the_weights(read, stored, name):
    tensors = {"a.norm": np.zeros(1, np.float32), "model.embed_tokens.weight": EMBEDDING.astype(stored)}
    assert read(without(LLAMA, "torch_dtype"), tensors).dtype == name
    assert read(LLAMA, tensors).dtype == "bfloat16"
    assert read(without(LLAMA, "torch_dtype"), tensors, dtype="float32").dtype == "float32"
    assert read(without(LLAMA, "torch_dtype"), tensors, weights=False).dtype == "float32"


def test_shards_say_a_dtype_too_even_where_some_are_not_there(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(without(LLAMA, "torch_dtype")))
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    save_file({"a": np.zeros(3, np.float16)}, tmp_path / "one.safetensors")
    assert read_spec(tmp_path).dtype == "float16"


def test_a_tied_model_with_a_head_of_its_own_uses_it_with_a_warning(read, caplog):
    with caplog.at_level(logging.WARNING):
        spec = read(TIED, {"model.embed_tokens.weight": EMBEDDING, "lm_head.weight": -EMBEDDING})
    assert not spec.tied
    assert "tie_word_embeddings is true, but lm_head.weight differs from model.embed_tokens.weight, and is used" in caplog.text


def test_a_head_that_is_a_copy_stays_tied_and_no_head_does(read, caplog):
    with caplog.at_level(logging.WARNING):
        assert read(TIED, {"model.embed_tokens.weight": EMBEDDING, "lm_head.weight": EMBEDDING}).tied
        assert read(TIED, {"model.embed_tokens.weight": EMBEDDING}).tied
    assert not caplog.records


@pytest.mark.parametrize("piece_bytes", [7, 100, 10**6])
def test_a_difference_in_the_last_number_is_seen(tmp_path, monkeypatch, piece_bytes):
    monkeypatch.setattr(weight_files, "_PIECE_BYTES", piece_bytes)
    other = EMBEDDING.copy()
    other[-1, -1] += 1
    save_file({"a": EMBEDDING, "b": EMBEDDING, "c": other, "d": EMBEDDING[1:]}, tmp_path / SINGLE)
    tensors = read_headers(tmp_path)
    assert [equal_bytes(tensors["a"], tensors[name]) for name in "abcd"] == [True, True, False, False]


def test_a_tensor_that_two_files_hold_is_refused(tmp_path):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    save_file({"a": EMBEDDING}, tmp_path / "one.safetensors")
    save_file({"a": EMBEDDING, "b": EMBEDDING}, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"two\.safetensors and .*one\.safetensors both hold a"):
        read_headers(tmp_path)


@pytest.mark.parametrize("file", [3, None, [], {}, "", "..", "../x.safetensors", "/etc/passwd", "a/b", "a\0b"])
def test_a_weight_map_names_files_of_its_folder(tmp_path, file):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a.weight": file}}))
    with pytest.raises(CheckpointError, match=r"weight_map must name a file of the folder for a\.weight"):
        read_headers(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"weight_map": 3}', '{"weight_map": ' + "[" * 100_000])
def test_an_index_that_is_none_is_refused(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match="has no readable weight_map"):
        read_headers(tmp_path)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN = {
    "empty": b"",
    "header beyond the limit": (2**62).to_bytes(8, "little") + b"{}",
    "header cut off": (100).to_bytes(8, "little") + b'{"a": ',
    "a list": b"[]",
    "nested": b"[" * 100_000,
    "entry is a number": b'{"a": 3}',
    "no dtype": json.dumps({"a": without(ENTRY, "dtype")}).encode(),
    "offsets beyond the file": json.dumps({"a": ENTRY | {"data_offsets": [0, 10**12]}}).encode(),
    "offsets turned round": json.dumps({"a": ENTRY | {"data_offsets": [8, 0]}}).encode(),
    "three offsets": json.dumps({"a": ENTRY | {"data_offsets": [0, 8, 8]}}).encode(),
    "shape is a number": json.dumps({"a": ENTRY | {"shape": 3}}).encode(),
    "sizes are words": json.dumps({"a": ENTRY | {"shape": ["x"]}}).encode(),
}


@pytest.mark.parametrize("header", BROKEN.values(), ids=BROKEN)
def test_a_broken_header_is_refused_with_the_file(tmp_path, header):
    whole = header if header[:1] not in (b"{", b"[") else len(header).to_bytes(8, "little") + header + bytes(8)
    (tmp_path / SINGLE).write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or no safetensors file"):
        read_headers(tmp_path)


VALUES = st.none() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=3) | st.lists(st.integers(-2, 20), max_size=3)
ENTRIES = st.dictionaries(st.sampled_from(("dtype", "shape", "data_offsets", "x")), VALUES | st.just("F32"), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.dictionaries(st.sampled_from(("a", "b", "__metadata__")), VALUES | ENTRIES, max_size=3))
def test_any_header_is_read_or_refused(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    try:
        tensors = read_headers(tmp_path)
    except CheckpointError as error:
        assert SINGLE in str(error)
    else:
        assert all(tensor.start <= tensor.end for tensor in tensors.values())
        weight_files.main_dtype(tensors)


def test_a_decoder_that_was_stored_alone_has_the_names_of_a_whole_one(tmp_path):
    bare = {"embed_tokens.weight": EMBEDDING, "layers.0.input_layernorm.weight": EMBEDDING[0], "norm.weight": EMBEDDING[0]}
    save_file(bare, tmp_path / SINGLE)
    assert read_headers(tmp_path).keys() == {f"model.{name}" for name in bare}
    save_file(bare | {"model.norm.weight": EMBEDDING[0]}, tmp_path / SINGLE)
    with pytest.raises(CheckpointError, match=r"has model\.norm\.weight twice"):
        read_headers(tmp_path)


def test_a_checkpoint_for_embeddings_may_lack_the_head_and_others_may_not(read, tmp_path):
    alone = {"embed_tokens.weight": EMBEDDING}
    assert not read(LLAMA, alone).tied
    assert read(LLAMA | {"architectures": ["LlamaModel"]}, alone).tied
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert read(LLAMA, alone).tied
    assert not read(LLAMA, alone | {"lm_head.weight": -EMBEDDING}).tied
