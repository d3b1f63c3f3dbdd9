"""Prefix caching through the real unit, on a device that looks at every block it reads: it changes no token, and loses no block."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.cache.block_pool import ModelBlocks
from muxjax.cache.layout import CacheLayout
from muxjax.cache.prefix import Chain
from muxjax.engine.executor import Fault
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.unit import Unit
from muxjax.scheduler.policies import BY_NAME
from muxjax.types import Finish, Output, Request, Sampling
from tests.engine.test_unit import run
from tests.fake_device import FakeClock, FakeDevice, continuation

MAX_TOKENS = 40
LAYOUTS = {
    "pairs": CacheLayout(windows=(None,), kv_heads=1, head_dim=32, element_bytes=4, block_bytes=512),  # 2 tokens a column of 1
    "fours": CacheLayout(windows=(None, None), kv_heads=2, head_dim=16, element_bytes=4, block_bytes=512),  # 4 a column of 4
    "twos": CacheLayout(windows=(None, 64), kv_heads=1, head_dim=32, element_bytes=4, block_bytes=512),  # 2 a column of 2
    "eights": CacheLayout(windows=(None,), kv_heads=1, head_dim=32, element_bytes=1, block_bytes=512),  # FP8: 8 a column of 1
    "short": CacheLayout(windows=(5, None), kv_heads=1, head_dim=16, element_bytes=4, block_bytes=512),  # its window passes
}
LARGEST = max(layout.blocks(MAX_TOKENS - 1) for layout in LAYOUTS.values())


class SeededDevice(FakeDevice):
    """Its tokens depend on the request's seed and on their position too, as those of a sampling device do."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._seeds: dict[tuple[str, int], int] = {}

    def _finish(self, step):
        for slot, seed in zip(step.slots.tolist(), step.sampling["seed"].tolist(), strict=True):
            self._seeds[step.model, slot] = seed
        return super()._finish(step)

    def _sample(self, model, slot, end, allowed):
        token = super()._sample(model, slot, end, allowed)
        self._sampled[model, slot] = (token + self._seeds[model, slot] * len(self._history[model, slot])) % 50
        return self._sampled[model, slot]


class Audited(Unit):
    """A unit whose books are looked through after every step."""

    def record(self, done):
        outputs = super().record(done)
        audit(self)
        return outputs


def audit(unit: Unit) -> None:
    """Every block is free, idle in the cache or in tables; and what a column says of its users is true."""
    used = {name: blocks_in_tables(state.tables) for name, state in unit._states.items()}
    idle = [column.ids.tolist() for state in unit._states.values() for column in state.blocks.idle.values()]
    ids = [block for blocks in used.values() for block in blocks] + [block for column in idle for block in column]
    assert len(set(ids)) == len(ids), "a block has two owners"
    assert len(ids) + unit._pool._arena.free == unit._pool.total, "a block is lost"
    for name, state in unit._states.items():
        assert state.blocks.held == len(used[name])
        readers = Counter(column.name for slot in range(4) for column, ids in copies(state.tables, slot) if column.first == ids[0])
        for slot in range(4):
            assert all(column.users == readers[column.name] > 0 for column, _ in copies(state.tables, slot))


def copies(tables, slot: int) -> list:
    """The slot's columns that others may find, with its own ids of them."""
    kept = tables._kept[slot]
    return list(zip(kept, tables._ids[slot, : len(kept)].reshape(len(kept), tables.column_blocks).tolist(), strict=True))


def blocks_in_tables(tables) -> set[int]:
    shared = [block for slot in range(4) for _, ids in copies(tables, slot) for block in ids]
    return {*shared, *(block for slot in range(4) for block in tables.owned(slot).tolist())}


def make_unit(total_blocks: int, *, kind: type[Unit] = Audited, token_budget: int = 8, look_ahead: int = 2, **options) -> Unit:
    configs = [ModelConfig(name=name, layout=layout, slots=4, max_tokens=MAX_TOKENS) for name, layout in LAYOUTS.items()]
    return kind(configs, total_blocks=total_blocks, token_budget=token_budget, max_rows=4, look_ahead=look_ahead, **options)


BEGINNINGS = [tuple((7 * which + at) % 50 for at in range(30)) for which in range(2)]


@st.composite
def requests(draw):
    """Of few beginnings, so that most of them share some."""
    beginning = draw(st.sampled_from(BEGINNINGS))[: draw(st.integers(1, 30))]
    prompt = (*beginning, *draw(st.lists(st.integers(0, 1), max_size=6)))
    return Request(
        id=draw(st.uuids()).hex,
        model=draw(st.sampled_from(sorted(LAYOUTS))),
        prompt=prompt,
        sampling=Sampling(
            temperature=1.0,
            seed=draw(st.integers(0, 2)),
            max_tokens=draw(st.integers(1, MAX_TOKENS - len(prompt))),
            stop_token_ids=frozenset(draw(st.sets(st.integers(0, 49), max_size=2))),
            prompt_logprobs=draw(st.sampled_from([None, None, None, 1])),
        ),
        arrival_s=draw(st.floats(0, 1)),
        cache_salt=draw(st.sampled_from(["", "", "other"])),
    )


def replay(unit: Unit, policy: str, todo: list[Request], cancels: dict[int, str] | None = None, **device) -> dict[str, list[Output]]:
    clock = FakeClock()
    return run(unit, BY_NAME[policy], SeededDevice(LAYOUTS, clock, **device), clock, todo, cancels or {})


def told(outputs: list[Output]) -> list[tuple]:
    return [(output.token, output.finish) for output in outputs]


@settings(max_examples=80, deadline=None)
@given(
    todo=st.lists(requests(), min_size=1, max_size=12, unique_by=lambda request: request.id),
    policy=st.sampled_from(sorted(BY_NAME)),
    spare_blocks=st.integers(0, 120),
    look_ahead=st.integers(1, 3),
    token_budget=st.integers(2, 40),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    eager=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    data=st.data(),
)
def test_tokens_are_the_same_with_and_without_it(todo, policy, spare_blocks, look_ahead, token_budget, share, eager, data):
    victims = data.draw(st.lists(st.sampled_from(todo), max_size=3))
    cancels = {data.draw(st.integers(0, 60)): victim.id for victim in victims}
    unit = make_unit(LARGEST + spare_blocks, look_ahead=look_ahead, token_budget=token_budget, prefix_cache_fraction=share)
    found = replay(unit, policy, todo, cancels, eager=eager)
    plain = replay(make_unit(10 * LARGEST, prefix_caching=False), "fcfs", todo)
    for request in todo:
        outputs, expected = found[request.id], told(plain[request.id])
        if outputs[-1].finish is Finish.ABORT:
            assert told(outputs[:-1]) == [(token, None) for token, _ in expected[: len(outputs) - 1]]
        else:
            assert told(outputs) == expected
        cached = outputs[0].cached_tokens
        assert 0 <= cached < len(request.prompt) and cached % LAYOUTS[request.model].tokens_per_block == 0
        assert not any(output.cached_tokens for output in outputs[1:])
        assert not cached or (request.sampling.prompt_logprobs is None and request.model != "short")
    stats = unit.stats()
    assert stats.free_blocks == stats.total_blocks and not any(model.held_blocks for model in stats.models)
    for name, state in unit._states.items():
        assert not state.blocks._twins and (name != "short" or not state.blocks.idle)


def ask(
    name: str, prompt: tuple[int, ...], *, model: str = "fours", at_s: float = 0.0, salt: str = "", tenant: str = "", **drawn
) -> Request:
    sampling = Sampling(**drawn)
    return Request(id=name, model=model, prompt=prompt, sampling=sampling, arrival_s=at_s, cache_salt=salt, tenant=tenant)


class Rig:
    """A unit and a device that live longer than a request."""

    def __init__(self, unit: Unit):
        self.unit, self.clock = unit, FakeClock()
        self.device = SeededDevice(LAYOUTS, self.clock)

    def serve(self, *todo: Request, policy: str = "adbs") -> list[list[Output]]:
        found = run(self.unit, BY_NAME[policy], self.device, self.clock, list(todo), {})
        return [found[request.id] for request in todo]

    def cached(self, *todo: Request) -> list[int]:
        return [outputs[0].cached_tokens for outputs in self.serve(*todo)]


PROMPT = BEGINNINGS[0][:18]  # four columns and a half of "fours"


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        (PROMPT, 16),
        (PROMPT[:16], 12),  # the last token is computed, so that there is something to draw from
        (PROMPT[:17], 16),
        (PROMPT[:7] + (49,) + PROMPT[8:], 4),
        ((49, *PROMPT[1:]), 0),
        (PROMPT[:4], 0),
    ],
)
def test_a_request_starts_behind_the_longest_whole_beginning_that_was_computed(prompt, tokens):
    rig = Rig(make_unit(400))
    assert rig.cached(ask("first", PROMPT)) == [0]
    assert rig.cached(ask("second", prompt)) == [tokens]
    stats = next(model for model in rig.unit.stats().models if model.name == "fours")
    assert (stats.prefix_queries, stats.prefix_hits) == (len(PROMPT) + len(prompt), tokens)
    assert stats.prefill_tokens == stats.prefix_queries - stats.prefix_hits


def test_what_was_generated_is_found_as_the_beginning_of_the_next_turn():
    rig = Rig(make_unit(400))
    ((*tokens,),) = rig.serve(ask("first", PROMPT, max_tokens=8))
    answer = tuple(output.token for output in tokens if output.token is not None)
    assert rig.cached(ask("second", PROMPT + answer + (1, 2, 3), max_tokens=1)) == [24]  # 25 of the 26 tokens were computed


def test_running_sequences_share_the_blocks_of_a_beginning():
    rig = Rig(make_unit(400, token_budget=64))
    rig.serve(ask("first", PROMPT, max_tokens=1))
    rig.serve(*(ask(f"{i}", (*PROMPT, i), max_tokens=2) for i in range(4)))
    column = LAYOUTS["fours"].column_blocks
    stats = next(model for model in rig.unit.stats().models if model.name == "fours")
    assert stats.peak_blocks == (4 + 4 * 1) * column


@pytest.mark.parametrize("other", [{"salt": "a"}, {"tenant": "a"}, {"model": "twos"}, {"prompt_logprobs": 0}])
def test_nothing_is_found_under_another_salt_tenant_or_model_or_where_all_logits_are_asked_for(other):
    rig = Rig(make_unit(400))
    assert rig.cached(ask("first", PROMPT), ask("second", PROMPT, at_s=1.0, **other)) == [0, 0]
    assert rig.cached(ask("third", PROMPT, at_s=2.0)) == [16]


def test_a_model_whose_window_passes_tokens_keeps_none():
    rig = Rig(make_unit(400))
    assert rig.cached(ask("first", PROMPT, model="short"), ask("second", PROMPT, model="short", at_s=1.0)) == [0, 0]
    assert rig.unit.stats().free_blocks == rig.unit._pool._arena.free


def test_without_it_nothing_is_kept():
    rig = Rig(make_unit(400, prefix_caching=False))
    assert rig.cached(ask("first", PROMPT), ask("second", PROMPT, at_s=1.0)) == [0, 0]
    assert rig.unit._pool._arena.free == 400


@pytest.mark.parametrize("policy", ["fcfs", "round_robin"])
def test_a_preempted_request_computes_little_of_its_tokens_again(policy):
    todo = [ask(f"{i}", (i, 1, 2, 3, 4), max_tokens=35) for i in range(4)]
    spent = {}
    for caching in (True, False):
        unit = make_unit(LARGEST + 4, prefix_caching=caching)
        found = replay(unit, policy, todo)
        assert all([output.token for output in found[each.id]] == continuation("fours", each.prompt, 35) for each in todo)
        stats = next(model for model in unit.stats().models if model.name == "fours")
        assert stats.preemptions > 0 and stats.prefix_queries == (20 if caching else 0)
        spent[caching] = stats.prefill_tokens
    assert spent[True] < spent[False]


def test_a_model_over_its_share_loses_its_own_columns_first():
    columns = 10
    rig = Rig(make_unit(columns * 4 + LARGEST, prefix_cache_fraction=0.3))
    rig.serve(ask("first", PROMPT))
    rig.serve(*(ask(f"{i}", tuple((i * 5 + at) % 50 for at in range(30)), model="pairs", max_tokens=2, at_s=float(i)) for i in range(30)))
    assert rig.unit.stats().models[0].evicted_blocks > 0
    assert rig.cached(ask("last", PROMPT, at_s=99.0)) == [16]


def test_without_a_share_the_least_recent_go_whosever_they_are():
    rig = Rig(make_unit(40 + LARGEST, prefix_cache_fraction=1.0))
    rig.serve(ask("first", PROMPT))
    rig.serve(*(ask(f"{i}", tuple((i * 5 + at) % 50 for at in range(30)), model="pairs", max_tokens=2, at_s=float(i)) for i in range(30)))
    assert rig.cached(ask("last", PROMPT, at_s=99.0)) == [0]


def test_what_a_failed_model_computed_is_kept_no_more():
    class Failing(SeededDevice):
        def collect(self, *, wait):
            return [replace(done, tokens=done.tokens[:0], fault=Fault(what="it broke")) for done in super().collect(wait=wait)]

    rig = Rig(make_unit(400))
    rig.serve(ask("first", PROMPT), ask("other", PROMPT, model="pairs"))
    rig.device.__class__ = Failing
    rig.serve(ask("second", PROMPT))
    fours, pairs = (rig.unit._states[name].blocks for name in ("fours", "pairs"))
    assert not fours.idle and not fours.keeps and pairs.idle
    audit(rig.unit)


@pytest.mark.parametrize("change", ["forget", "remove"])
def test_what_an_arena_has_lost_or_a_model_that_has_gone_is_not_found_again(change):
    rig = Rig(make_unit(400))
    rig.serve(ask("first", PROMPT))
    if change == "forget":
        rig.unit.resize(300)
    else:
        config = rig.unit._states["fours"].config
        rig.unit.remove("fours")
        rig.unit.add(config)
    assert rig.cached(ask("second", PROMPT)) == [0]
    audit(rig.unit)


def collide(monkeypatch, **ignored: str):
    """Names made of something less than all that a column depends on."""
    true = Chain.of
    monkeypatch.setattr(Chain, "of", lambda request, size: true(replace(request, **ignored), size))


def test_the_law_notices_a_salt_that_is_not_looked_at(monkeypatch):
    collide(monkeypatch, cache_salt="")
    rig = Rig(make_unit(400))
    assert rig.cached(ask("first", PROMPT), ask("second", PROMPT, salt="a", at_s=1.0)) == [0, 16]


def test_the_device_notices_columns_of_another_model(monkeypatch):
    collide(monkeypatch, model="any")
    rig = Rig(make_unit(400))
    rig.serve(ask("first", PROMPT, model="pairs"))
    with pytest.raises((AssertionError, KeyError, ValueError)):
        rig.serve(ask("second", PROMPT, model="twos"))


def test_the_device_notices_columns_one_place_off(monkeypatch):
    true = ModelBlocks.use

    def shifted(blocks, chain, count):
        columns = true(blocks, chain, count)
        return columns[1:] + columns[:1]

    monkeypatch.setattr(ModelBlocks, "use", shifted)
    rig = Rig(make_unit(400, kind=Unit))
    rig.serve(ask("first", PROMPT))
    with pytest.raises(AssertionError):
        rig.serve(ask("second", PROMPT))


def test_the_device_notices_a_block_of_another_column(monkeypatch):
    true = ModelBlocks.use

    def mixed(blocks, chain, count):
        columns = true(blocks, chain, count)
        if count > 1:
            columns[0].ids = columns[0].ids.copy()
            columns[0].ids[-1] = columns[1].ids[-1]
        return columns

    monkeypatch.setattr(ModelBlocks, "use", mixed)
    rig = Rig(make_unit(400, kind=Unit))
    rig.serve(ask("first", PROMPT))
    with pytest.raises(AssertionError, match="holds"):
        rig.serve(ask("second", PROMPT))


def test_the_audit_notices_a_column_that_goes_while_it_is_used(monkeypatch):
    true = ModelBlocks.use

    def unpinned(blocks, chain, count):
        columns = true(blocks, chain, count)
        for column in columns:
            blocks.drop([column], [column.first])
        return columns

    monkeypatch.setattr(ModelBlocks, "use", unpinned)
    rig = Rig(make_unit(400))
    rig.serve(ask("first", PROMPT))
    with pytest.raises(AssertionError, match="two owners"):
        rig.serve(ask("second", PROMPT))


def test_what_lies_beyond_a_late_stop_is_not_kept():
    """Two tokens were computed after the one that stopped it: their column is full, and holds what nobody asked for."""
    first, *_ = continuation("pairs", PROMPT, 1)
    rig = Rig(make_unit(400, look_ahead=3))
    rig.device = SeededDevice(LAYOUTS, rig.clock, eager=[0])
    rig.serve(ask("first", PROMPT, model="pairs", max_tokens=12, stop_token_ids=frozenset({first})))
    names = {column.name for column in rig.unit._states["pairs"].blocks.idle.values()}
    chain = Chain.of(ask("first", PROMPT, model="pairs"), 2)
    chain.extend(np.array(PROMPT, np.int32), 9)
    assert names == set(chain.names)
