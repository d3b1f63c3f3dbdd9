"""Grammars as masks: what a matcher allows is what the grammar does, token by token."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from muxjax.engine.grammar import COMPILED_GRAMMARS, Grammars
from muxjax.errors import RequestError
from muxjax.types import Grammar, GrammarKind
from tests.engine.controls import EOS, LETTERS, grammars, tokenizer
from tests.server.kit import spec

DEMO = "muxjax/demo/data/sea"


def allowed(bits: np.ndarray) -> set[int]:
    return set(np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist())


def letters(bits: np.ndarray) -> str:
    return "".join("$" if token == EOS else LETTERS[token] for token in sorted(allowed(bits)))


def regex(text: str) -> Grammar:
    return Grammar(kind=GrammarKind.REGEX, text=text)


def test_a_regex_allows_its_next_letters_and_the_end_where_it_may_end():
    matcher = grammars().matcher(regex("a(b|cd)*"))
    seen = []
    for letter in "abcd":
        seen.append(letters(matcher.bits()))
        matcher.take(LETTERS.index(letter))
    assert [*seen, letters(matcher.bits())] == ["a", "bc$", "bc$", "d", "bc$"]


def test_behind_the_end_there_is_only_the_end():
    matcher = grammars().matcher(regex("a"))
    for token in (0, EOS, EOS):
        matcher.take(token)
        assert letters(matcher.bits()) == "$"


def test_behind_the_end_there_is_nothing_where_the_model_has_no_end():
    matcher = Grammars(tokenizer(), vocab=64, eos_ids=()).matcher(regex("ab?"))
    seen = []
    for letter in "ab":
        matcher.take(LETTERS.index(letter))
        seen.append((letters(matcher.bits()), matcher.is_complete))
    assert seen == [("b", True), ("", True)]


@pytest.mark.parametrize("more", range(4))
@pytest.mark.parametrize("vocab", [60, 64, 65])
def test_masks_have_no_token_that_the_model_does_not_have(more, vocab):
    """Whatever its tokenizer names: here a letter a token, the end at 63, and more behind it."""
    wide = Grammars(tokenizer(*["[A]", "[B]", "[C]"][:more]), vocab=vocab, eos_ids=(EOS,) if vocab > EOS else ())
    bits = wide.matcher(regex("[a-zA-Z0-9-]*")).bits()
    assert allowed(bits) == set(range(min(vocab, len(LETTERS)))) | ({EOS} if vocab > EOS else set())
    assert len(bits) <= -(-vocab // 32)


@pytest.mark.parametrize(("eos_ids", "ends"), [((), set()), ((EOS,), {EOS}), ((69,), {69}), ((EOS, 69), {EOS, 69}), ((99,), set())])
def test_a_model_may_have_more_rows_than_its_tokenizer_has_tokens_and_end_with_one_of_them(eos_ids, ends):
    matcher = Grammars(tokenizer(), vocab=70, eos_ids=eos_ids).matcher(regex("a"))
    assert letters(matcher.bits()) == "a"
    matcher.take(LETTERS.index("a"))
    assert allowed(matcher.bits()) == ends and matcher.is_complete


SAID = {
    "a regex": (regex("a</s>b"), "a</s>b"),
    "a grammar": (Grammar(kind=GrammarKind.LARK, text='start: "x" | "a" "<s>b"'), "a<s>b"),
    "a grammar with options": (Grammar(kind=GrammarKind.LARK, text='%llguidance {}\nstart: "a<s>b"'), "a<s>b"),
    "a value": (Grammar(kind=GrammarKind.JSON_SCHEMA, text='{"enum": ["a</s>", 5]}'), '"a</s>"'),
    "a name": (
        Grammar(
            kind=GrammarKind.JSON_SCHEMA,
            text='{"type": "object", "properties": {"<s>": {"const": 1}}, "required": ["<s>"], "maxProperties": 1}',
        ),
        '{"<s>":1}',
    ),
    "a token itself": (Grammar(kind=GrammarKind.LARK, text='start: "a" <|bot|>'), "a<|bot|>"),
}


@pytest.mark.parametrize(("grammar", "said"), SAID.values(), ids=SAID)
def test_an_answer_may_have_the_text_of_a_special_token(grammar, said):
    """Spelled by other tokens, but for one that the grammar names."""
    with open(f"{DEMO}/tokenizer.json") as file:
        text = file.read()
    decoder, answer, matcher = Tokenizer.from_str(text), list[int](), Grammars(text, vocab=600, eos_ids=(1,)).matcher(grammar)
    spelled = {token: decoder.decode([token], skip_special_tokens=False) for token in range(decoder.get_vocab_size())}
    while not matcher.is_complete:
        begun = "".join(spelled[token] for token in answer)
        answer.append(
            max(
                (token for token in allowed(matcher.bits()) if said.startswith(begun + spelled[token])),
                key=lambda token: len(spelled[token]),
            )
        )
        matcher.take(answer[-1])
    assert "".join(spelled[token] for token in answer) == said


def test_answers_of_one_grammar_do_not_meet():
    one, two = (grammars().matcher(regex("ab|cd")) for _ in range(2))
    one.take(LETTERS.index("a"))
    assert (letters(one.bits()), letters(two.bits())) == ("b", "ac")


@pytest.mark.parametrize("seed", range(5))
def test_random_answers_match(seed):
    """Of a real tokenizer, by a schema: whatever is drawn of what is allowed is JSON of that kind, without free blanks."""
    with open(f"{DEMO}/tokenizer.json") as file:
        found = Grammars(file.read(), vocab=600, eos_ids=(1,))
    schema = {
        "type": "object",
        "properties": {
            "name": {"enum": ["gull", "eel"]},
            "old": {"type": "boolean"},
            "legs": {"type": "array", "items": {"enum": [1, 22]}},
        },
        "required": ["name", "old", "legs"],
        "additionalProperties": False,
    }
    decode, matcher, tokens = Tokenizer.from_file(f"{DEMO}/tokenizer.json").decode, found.matcher(as_schema(schema)), []
    draw = random.Random(seed)
    while 1 not in tokens:
        choices = sorted(allowed(matcher.bits()))
        assert choices and max(choices) < 488, "tokens that the tokenizer does not name"
        tokens.append(1 if 1 in choices else draw.choice(choices))
        matcher.take(tokens[-1])
        assert len(tokens) < 500
    answer = decode(tokens[:-1])
    value = json.loads(answer)
    assert set(value) == {"name", "old", "legs"} and value["name"] in ("gull", "eel") and set(value["legs"]) <= {1, 22}
    assert "\n" not in answer and "  " not in answer


def as_schema(schema: dict) -> Grammar:
    return Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(schema))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (GrammarKind.REGEX, "(a"),
        (GrammarKind.LARK, "start: nobody"),
        (GrammarKind.LARK, ""),
        (GrammarKind.JSON_SCHEMA, '{"type":'),
        (GrammarKind.JSON_SCHEMA, '{"type": "sting"}'),
        (GrammarKind.JSON_SCHEMA, "[1]"),
    ],
)
def test_what_does_not_compile_is_the_clients_error_in_one_short_line(kind, text):
    with pytest.raises(RequestError, match=f"the {kind} does not compile: ") as refusal:
        grammars().matcher(Grammar(kind=kind, text=text))
    assert refusal.value.status == 400 and refusal.value.param == "structured_outputs"
    assert len(str(refusal.value)) < 400 and "\n" not in str(refusal.value)


def test_a_lark_grammar_and_choices():
    matcher = grammars().matcher(Grammar(kind=GrammarKind.LARK, text='start: "yes" | "no" | "yep"'))
    matcher.take(LETTERS.index("y"))
    matcher.take(LETTERS.index("e"))
    assert letters(matcher.bits()) == "ps"


def test_a_folder_without_a_tokenizer_has_no_grammars(tmp_path, caplog):
    one = replace(spec(), vocab=64, eos_ids=(EOS,))
    assert Grammars.of(tmp_path, one) is None
    (tmp_path / "tokenizer.json").write_text(Tokenizer(BPE()).to_str())
    assert Grammars.of(tmp_path, one) is None and f"no structured output with {tmp_path}" in caplog.text
    (tmp_path / "tokenizer.json").write_text(tokenizer())
    made = Grammars.of(tmp_path, one)
    assert made and letters(made.matcher(regex("[xy]")).bits()) == "xy"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (GrammarKind.REGEX, "(a{1000}){1000}"),
        (GrammarKind.LARK, 'start: "a" start'),
        (GrammarKind.LARK, 'start: "a" b\nb: b "c"'),
        (GrammarKind.JSON_SCHEMA, '{"$ref": "#"}'),
        (GrammarKind.REGEX, "\u00e9"),
    ],
)
def test_a_grammar_without_a_way_to_an_answer_does_not_compile(kind, text):
    """The last one: no token of the model writes it."""
    with pytest.raises(RequestError, match=f"the {kind} does not compile: it leads to where nothing can follow"):
        grammars().matcher(Grammar(kind=kind, text=text))


def test_a_grammar_that_somebody_holds_is_not_compiled_again_however_many_come_after_it(monkeypatch):
    own, compiled = grammars(), []
    compile_one = own._compile
    monkeypatch.setattr(own, "_compile", lambda grammar: compiled.append(grammar.text) or compile_one(grammar))
    held = own.compiled(regex("held"))
    for number in range(COMPILED_GRAMMARS + 5):
        own.compiled(regex(f"b{number}"))
    own.matcher(regex("held"))
    assert compiled.count("held") == 1
    del held
    for number in range(COMPILED_GRAMMARS + 5):
        own.compiled(regex(f"b{number}"))
    own.matcher(regex("held"))
    assert compiled.count("held") == 2, "one that nobody holds is forgotten"
