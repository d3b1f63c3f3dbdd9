"""Rules of a request that leave no token to begin with are refused at the door; any others are not."""

import pytest

from muxjax.engine.token_controls import check_controls
from muxjax.errors import RequestError
from muxjax.types import Grammar, GrammarKind, Sampling
from tests.engine.controls import EOS, LETTERS, grammars

VOCAB = 64
YES = Grammar(kind=GrammarKind.LARK, text='start: "yes" | "Yes"')


def ids(text: str) -> frozenset[int]:
    return frozenset(map(LETTERS.index, text))


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (Sampling(max_tokens=5, grammar=YES, allowed_token_ids=ids("es")), "allowed_token_ids"),
        (Sampling(max_tokens=5, grammar=YES, bad_words=((LETTERS.index("y"),), (LETTERS.index("Y"),))), "bad_words"),
        (Sampling(max_tokens=5, allowed_token_ids=ids("a"), bad_words=((LETTERS.index("a"),),)), "allowed_token_ids"),
        (
            Sampling(max_tokens=5, allowed_token_ids=frozenset([EOS]), stop_token_ids=frozenset([EOS]), min_tokens=3),
            "allowed_token_ids",
        ),
        (Sampling(max_tokens=5, bad_words=tuple((token,) for token in range(VOCAB))), "bad_words"),
    ],
)
def test_rules_that_forbid_every_first_token_are_refused_by_name(sampling, param):
    with pytest.raises(RequestError, match="together forbid every first token") as refusal:
        check_controls(sampling, VOCAB, grammars())
    assert (refusal.value.status, refusal.value.param) == (400, param)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=5, grammar=YES, allowed_token_ids=ids("yes")),
        Sampling(max_tokens=5, grammar=YES, bad_words=((LETTERS.index("y"),),)),
        Sampling(max_tokens=5, grammar=YES, bad_words=((LETTERS.index("y"), LETTERS.index("e")),)),
        Sampling(max_tokens=5, allowed_token_ids=frozenset([EOS]), stop_token_ids=frozenset([EOS])),
        Sampling(max_tokens=5, bad_words=tuple((token,) for token in range(VOCAB - 1))),
    ],
)
def test_rules_that_leave_one_token_are_taken(sampling):
    assert check_controls(sampling, VOCAB, grammars()) is None
