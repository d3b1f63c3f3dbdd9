"""Speculative decoding through the whole engine: the tokens of transformers, whatever was drafted beside them."""

from collections.abc import Iterator

import numpy as np
import pytest

from muxjax.cache.layout import CacheLayout
from muxjax.engine.speculation import method
from muxjax.engine.speculation.drafts import Drafts
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.engine.speculation.worth import Worth
from muxjax.specs.config import read_spec
from muxjax.types import Grammar, GrammarKind, Ints, Output, Request, Sampling
from tests.device.test_greedy_goldens import MIXED, Serving, assert_golden
from tests.engine.controls import ControlledModel
from tests.models.golden import make_model, read_golden

SPECULATIVE = SpeculativeOptions(method="ngram", num_speculative_tokens=5, prompt_lookup_min=1)
BLOCK_BYTES = 2048
WRONG = 5
"""One in so many drafts is wrong."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make_model(name, tmp_path_factory.mktemp("models") / name, read_golden(name).seed) for name in MIXED}


@pytest.fixture
def guesses(monkeypatch):
    """Drafts that are the tokens of the goldens, but for one in WRONG."""
    texts = [(*golden.prompts[i], *golden.tokens[i]) for golden in map(read_golden, MIXED) for i in range(len(golden.prompts))]

    def following(text: tuple[int, ...]) -> Iterator[int]:
        whole = next((whole for whole in texts if whole[: len(text)] == text), ())
        for place in range(len(text), len(whole)):
            yield whole[place] if place % WRONG else 1 + whole[place] % 2

    def propose(text: Ints, most: int, *, longest: int, shortest: int) -> Ints:
        return np.array(list(following(tuple(text.tolist())))[:most], np.int32)

    monkeypatch.setattr(method, "prompt_lookup", propose)


def counted(serving: Serving, name: str) -> int:
    return sum(getattr(model, name) for model in serving.built.engine.stats().models)


def assert_drafted(serving: Serving) -> None:
    """Of the drafts some were right and some were wrong."""
    assert 0 < counted(serving, "accepted_tokens") < counted(serving, "draft_tokens")
    assert 0 < counted(serving, "drafts") < counted(serving, "draft_tokens")


@pytest.mark.parametrize("name", MIXED)
def test_each_model_alone_makes_the_tokens_of_transformers(folders, name, guesses):
    with Serving(folders, [name], speculative_config=SPECULATIVE) as serving:
        for number in (0, 1, 2, 2):  # at last with what the prefix cache has
            assert_golden([(name, number)], serving.answers([(name, number)]))
        assert_drafted(serving)
        steps = counted(serving, "decode_steps")
        assert steps == sum(len(read_golden(name).tokens[number]) - 1 for number in (0, 1, 2, 2)) - counted(serving, "accepted_tokens")


def test_prompt_lookup_finds_what_it_drafts_by_itself(folders):
    with Serving(folders, MIXED, speculative_config=SPECULATIVE) as serving:
        wanted = [(name, 2) for name in MIXED]
        assert_golden(wanted, serving.answers(wanted))
        assert_drafted(serving)


@pytest.mark.parametrize(("policy", "budget"), [("mux", 16), ("adbs", 64), ("fcfs", 16)])
def test_models_mixed_on_one_arena_and_cut_into_chunks_make_the_same_tokens(folders, policy, budget, guesses):
    wanted = [(name, number) for number in (2, 0, 1, 0) for name in MIXED]
    with Serving(folders, MIXED, policy=policy, max_num_batched_tokens=budget, speculative_config=SPECULATIVE) as serving:
        assert_golden(wanted, serving.answers(wanted))
        assert_drafted(serving)
        assert counted(serving, "mixed_steps") > 0
        stats = serving.built.engine.stats()
        assert stats.free_blocks == stats.total_blocks


def test_preempted_requests_make_the_same_tokens(folders, guesses):
    names, wanted = MIXED[:2], [(name, number) for number in (2, 1, 0) for name in MIXED[:2]]
    with Serving(folders, names, kv_cache_bytes=80 * BLOCK_BYTES, speculative_config=SPECULATIVE) as serving:
        assert_golden(wanted, serving.answers(wanted))
        assert_drafted(serving)
        assert counted(serving, "preemptions") > 0


@pytest.mark.parametrize(("name", "lanes"), [(MIXED[0], 1), (MIXED[0], 2), (MIXED[1], 2)])
def test_a_draft_model_with_the_same_weights_is_right_and_one_with_others_changes_nothing(folders, name, lanes, monkeypatch):
    """Whatever they cost: drafts of a model as large as its target are worth nothing, and how soon they rest is a matter of the clock."""
    monkeypatch.setattr(Worth, "speculates", lambda worth, most_rows: 2 * worth.rows <= most_rows)
    drafting = SpeculativeOptions(method="draft_model", model="twin", num_speculative_tokens=5)
    wanted = [(name, number) for number in (2, 0, 1)]
    with Serving({**folders, "twin": folders[name]}, [name, "twin"], lanes=lanes, speculative_config=drafting) as serving:
        assert_golden(wanted, serving.answers(wanted))
        own, twin = serving.built.engine.stats().models
        assert own.drafts > 0 and own.accepted_tokens == own.draft_tokens
        assert twin.prefill_steps and not twin.running
    other = next(one for one in MIXED if one != name)
    with Serving({**folders, "twin": folders[other]}, [name, "twin"], lanes=lanes, speculative_config=drafting) as serving:
        assert_golden(wanted, serving.answers(wanted))
        stats = serving.built.engine.stats()
        assert stats.models[0].drafts > 0 and stats.free_blocks == stats.total_blocks


def test_two_devices_make_the_same_tokens(folders, guesses):
    name = "qwen2_windowed"
    tight_bytes = CacheLayout.of(read_spec(folders[name]).share(2), element_bytes=4, block_bytes=BLOCK_BYTES).blocks(128) * 2 * BLOCK_BYTES
    wanted = [(name, number) for number in (2, 1, 0, 1)]
    with Serving(folders, [name], tensor_parallel_size=2, kv_cache_bytes=tight_bytes, speculative_config=SPECULATIVE) as serving:
        assert_golden(wanted, serving.answers(wanted))
        assert_drafted(serving)


SAMPLINGS = {
    "greedy": {"temperature": 0.0},
    "random": {"temperature": 1.0, "seed": 5},
    "random, another seed": {"temperature": 1.0, "seed": 6},
    "filtered": {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.02, "seed": 2**40},
    "hot": {"temperature": 3.0, "seed": -1},
    "penalized": {"temperature": 1.0, "frequency_penalty": 1.0, "seed": 3},
    "formed": {"temperature": 1.0, "grammar": Grammar(kind=GrammarKind.REGEX, text="(ab?c){9}"), "seed": 4},
    "told": {"temperature": 1.0, "logprobs": 2, "seed": 7},
    "biased": {"temperature": 1.0, "logit_bias": ((5, 4.0), (6, -100.0)), "seed": 8},
    "banned": {"temperature": 0.7, "allowed_token_ids": frozenset(range(4)), "bad_words": ((1, 2), (3,)), "seed": 9},
    "late": {"temperature": 3.0, "min_tokens": 20, "stop_token_ids": frozenset(range(20)), "seed": 10},
}


def tokens_of(outputs: dict[str, list[Output]]) -> dict[str, tuple[int | None, ...]]:
    return {name: tuple(output.token for output in own) for name, own in outputs.items()}


def test_random_tokens_are_those_that_the_seed_gives_without_drafts(monkeypatch):
    """Whatever else they ask of their tokens; penalties have no drafts."""
    model = ControlledModel(decode_rows=12)
    requests = [
        Request(id=name, model="m", prompt=(7, i, 3), sampling=Sampling(max_tokens=40, **own), arrival_s=0.0)
        for i, (name, own) in enumerate(SAMPLINGS.items())
    ]
    alone = tokens_of(model.run(requests)[0])
    texts = [(*request.prompt, *alone[request.id]) for request in requests]

    asked = set()

    def propose(text: Ints, most: int) -> Ints:
        asked.add(int(text[1]))
        whole = next((whole for whole in texts if whole[: len(text)] == tuple(text.tolist())), None)
        assert whole is not None, "a text that is no other run's"
        return np.array(
            [((token or 0) + (place % 3 == 0)) % 64 for place, token in enumerate(whole[len(text) :], len(text))][:most], np.int32
        )

    speculation = Speculation(propose=propose, most_drafts=3, most_rows=12)
    drafted, _ = model.run(requests, speculation=speculation)
    assert tokens_of(drafted) == alone and len({*alone.values()}) == len(requests)
    assert len(asked) == len(requests) - 1
    assert [told.token for output in drafted["told"] if (told := output.logprobs)] == [*alone["told"]]
    monkeypatch.setattr(Drafts, "right", lambda drafts, tokens: np.ones(len(drafts), bool))
    with pytest.raises(AssertionError, match="no other run's"):
        model.run(requests, speculation=speculation)
