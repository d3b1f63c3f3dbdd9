from tokenizers import Tokenizer, decoders, models

from muxjax.server.text.token_bytes import TokenBytes


def test_a_piece_is_read_as_its_decoder_writes_it():
    vocab = {"▁a": 0, "<0xE2>": 1, "<unk>": 2}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    assert [TokenBytes(tokenizer).of(token) for token in range(3)] == ["▁a".encode(), b"<0xE2>", b"<unk>"]
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    assert [TokenBytes(tokenizer).of(token) for token in range(3)] == [b" a", b"\xe2", b"<unk>"]
    tokenizer.decoder = decoders.Metaspace()
    assert TokenBytes(tokenizer).of(0) == b" a"
