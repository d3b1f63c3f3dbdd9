"""What do sentencepiece and tiktoken make of texts? Writes tests/specs/goldens/vocabularies (needs sentencepiece and tiktoken).

python -m scripts.make_vocabulary_goldens
"""

import base64
import io
import itertools
import json
import tempfile
from pathlib import Path

import sentencepiece
import tiktoken

from tests.specs.vocabulary_texts import FOLDER, TEXTS

CORPUS = [line for page in sorted(Path("docs").glob("*.md")) for line in page.read_text().splitlines() if line]
MODELS = {
    "llama": {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "bpe": {"model_type": "bpe", "byte_fallback": False, "user_defined_symbols": ["[REF]"]},
    "unigram": {"model_type": "unigram", "byte_fallback": True},
    "no_prefix": {"model_type": "unigram", "add_dummy_prefix": False, "normalization_rule_name": "identity"},
}
"""Options of sentencepiece's trainer; by default characters are normalised, and spaces dropped that stand beside others."""
RULES = {"ﬁ": "fi", "①": "1", "\uff46": "f", "\u00a0": " ", "e\u0301": "é", "\ufeff": ""}
"""How characters are normalised: the usual rules take 240 KiB."""
PATTERN = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, options in MODELS.items():
        path = FOLDER / f"{name}.model"
        path.write_bytes(trained(options))
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        ids = [model.encode(text) for text in TEXTS]
        expected[path.name] = {"ids": ids, "texts": [model.decode(each) for each in ids]}
    tekken = make_tekken()
    (FOLDER / "tekken.json").write_text(json.dumps(tekken))
    size, behind = tekken["config"]["default_vocab_size"], tekken["config"]["default_num_special_tokens"]
    ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in tekken["vocab"][: size - behind]}
    encoding = tiktoken.Encoding("tekken", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    expected["tekken.json"] = {"ids": [[rank + behind for rank in encoding.encode_ordinary(text)] for text in TEXTS], "texts": list(TEXTS)}
    (FOLDER / "expected.json").write_text(json.dumps(expected))


def trained(options: dict) -> bytes:
    """A model of 500 pieces."""
    written = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.writelines(f"{codes(text)}\t{codes(to)}\n" for text, to in RULES.items())
        rules.flush()
        usual = {} if "normalization_rule_name" in options else {"normalization_rule_tsv": rules.name}
        limits = {"vocab_size": 500, "hard_vocab_limit": False, "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(CORPUS), model_writer=written, **limits, **usual, **options)
    return written.getvalue()


def codes(text: str) -> str:
    return " ".join(f"{ord(character):X}" for character in text)


def make_tekken() -> dict:
    """Ranks of bytes, and of pairs that are frequent in the corpus."""
    pieces = [bytes([byte]) for byte in range(256)]
    words = [list(map(bytes, zip(line.encode()))) for line in CORPUS[:400]]
    while len(pieces) < 500:
        counts: dict[bytes, int] = {}
        for word in words:
            for left, right in itertools.pairwise(word):
                counts[left + right] = counts.get(left + right, 0) + 1
        best = max((pair for pair in counts if pair not in pieces), key=lambda pair: (counts[pair], pair))
        pieces.append(best)
        words = [merged(word, best) for word in words]
    vocab = [{"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None} for rank, piece in enumerate(pieces)]
    named = [{"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(("<unk>", "<s>", "</s>", "[INST]"))]
    config = {"pattern": PATTERN, "num_vocab_tokens": 500, "default_vocab_size": 490, "default_num_special_tokens": 10, "version": "v11"}
    return {"config": config, "vocab": vocab, "special_tokens": named}


def merged(word: list[bytes], best: bytes) -> list[bytes]:
    found: list[bytes] = []
    for piece in word:
        if found and found[-1] + piece == best:
            found[-1] = best
        else:
            found.append(piece)
    return found


if __name__ == "__main__":
    main()
