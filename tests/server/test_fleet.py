"""Models that come, go, sleep, wake and fail in any order, while requests for them come: nobody waits for ever, and no model is lost."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import muxjax.demo
from muxjax.engine.options import ModelOptions
from muxjax.engine.speculation.options import SpeculativeOptions
from muxjax.engine.stats import Status
from muxjax.errors import RequestError
from muxjax.types import Finish
from tests.server.fleet_play import AUTO_WAKE, Play, options_of


class Fleets(RuleBasedStateMachine):
    """Changes, requests and faults in any interleaving."""

    def __init__(self):
        super().__init__()
        self.play = Play("a", "b")

    @rule(model=st.sampled_from("abc"), by_alias=st.booleans())
    def ask(self, model, by_alias):
        self.play.ask(model + "2" * by_alias)

    @rule(model=st.sampled_from("abc"))
    def add(self, model):
        self.play.change(self.play.fleet.add(options_of(model)))

    @rule(model=st.sampled_from("abc"))
    def remove(self, model):
        self.play.change(self.play.fleet.remove(model, timeout_s=1))

    @rule(model=st.sampled_from("abc"), by_alias=st.booleans())
    def sleep(self, model, by_alias):
        self.play.change(self.play.fleet.sleep(model + "2" * by_alias, timeout_s=1))

    @rule(model=st.sampled_from("abc"))
    def wake(self, model):
        self.play.change(self.play.fleet.wake(model))

    @rule(model=st.sampled_from("abc"))
    def fail(self, model):
        if self.play.world.status.get(model, Status.ASLEEP).serves:
            self.play.world.fail(model)
            self.play.settle()

    @rule(model=st.sampled_from("abc"))
    def answer(self, model):
        self.play.end(model)

    @rule(hurry=st.booleans())
    def hurry(self, hurry):
        self.play.world.hurry = hurry

    @precondition(lambda self: self.play.stage.calls)
    @rule(turns=st.integers(1, 4))
    def advance(self, turns):
        for _ in range(turns):
            if self.play.stage.calls:
                self.play.advance()

    @precondition(lambda self: self.play.stage.calls)
    @rule()
    def go_wrong(self):
        self.play.advance(fault=True)

    @rule(task=st.integers(0, 100))
    def leave(self, task):
        """A client, or whoever asked for a change, does not wait any more."""
        tasks = [*(task for _, task in self.play.answers), *self.play.changes]
        if tasks:
            tasks[task % len(tasks)].cancel()
            self.play.settle()

    def teardown(self):
        try:
            self.play.finish()
            for model, task in self.play.answers:
                assert task.cancelled() or not self._turned_away(model[0], task.exception()), model
            for model in [options.name for options in self.play.fleet.options.models]:
                self._try(model)
        finally:
            self.play.close()

    def _turned_away(self, model: str, error: BaseException | None) -> bool:
        """It was told to come again, though its model may be woken; or it hit upon a defect."""
        if error is None:
            return False
        return not isinstance(error, RequestError) or (error.code == "model_loading" and AUTO_WAKE[model])

    def _try(self, model: str) -> None:
        """The model is in a state that the fleet knows, and that one can leave."""
        fleet, status = self.play.fleet, self.play.world.status[model]
        assert fleet.states()[model] == status and fleet.rests(model) is (status is Status.ASLEEP)
        if status in (Status.FAILED, Status.DRAINING):  # whose removal went wrong
            if len(fleet.options.models) > 1:
                self.play.change(fleet.remove(model, timeout_s=1))
                self.play.finish()
                assert model not in fleet.states() and model not in {options.name for options in fleet.options.models}
            return
        if not AUTO_WAKE[model]:
            self.play.change(fleet.wake(model))
            self.play.finish()
        task = self.play.ask(model)
        self.play.finish()
        assert task.result() is Finish.LENGTH and self.play.world.status[model] is Status.READY


TestFleets = Fleets.TestCase
TestFleets.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.fixture
def play():
    play = Play("a", "b")
    yield play
    play.finish()
    play.close()


def test_a_removal_that_goes_wrong_before_anything_was_done_leaves_the_model_to_its_clients(play):
    play.change(play.fleet.remove("a", timeout_s=1))
    play.advance()
    play.advance(fault=True)
    answer = play.ask("a")
    play.finish()
    assert answer.result() is Finish.LENGTH


def test_who_places_models_has_no_longer_one_that_is_being_removed_unless_that_goes_wrong(play):
    def staying():
        return [model.name for model in play.fleet.staying()]

    play.change(play.fleet.remove("a", timeout_s=1))
    play.advance()
    assert staying() == ["b"]
    play.advance(fault=True)
    play.finish()
    assert staying() == ["a", "b"]
    play.change(play.fleet.remove("a", timeout_s=1))
    play.finish()
    assert staying() == ["b"]


def test_a_sleep_asked_for_while_a_request_wakes_the_model_waits_until_the_request_is_in(play):
    play.change(play.fleet.sleep("a", timeout_s=1))
    play.finish()
    answer = play.ask("a")
    for _ in range(2):
        play.change(play.fleet.sleep("a", timeout_s=1))
    play.finish()
    assert answer.result() is Finish.LENGTH and play.world.status["a"] is Status.ASLEEP
    again = play.ask("a")
    play.finish()
    assert again.result() is Finish.LENGTH and play.world.status["a"] is Status.READY


def test_a_request_gets_in_between_sleeps_that_never_end(play):
    async def idler() -> None:
        while True:
            await play.fleet.sleep("a", timeout_s=1)

    tired = play.loop.create_task(idler())
    play.settle()
    answer = play.ask("a")
    for _ in range(20):
        play.advance()
        play.end("a")
    assert answer.result() is Finish.LENGTH
    tired.cancel()


def test_a_sleep_that_goes_wrong_after_the_model_sleeps_leaves_it_to_be_woken(play):
    slept = play.change(play.fleet.sleep("a", timeout_s=1))
    for _ in range(2):
        play.advance()
    play.advance(fault=True)
    assert isinstance(slept.exception(), RequestError) and play.world.status["a"] is Status.ASLEEP
    answer = play.ask("a")
    play.finish()
    assert answer.result() is Finish.LENGTH


def test_a_model_that_fails_on_its_way_to_sleep_says_so_to_whoever_waited_for_it(play):
    play.ask("a")
    play.change(play.fleet.sleep("a", timeout_s=1))
    play.advance()
    waiting = play.ask("a")
    play.world.fail("a")
    play.finish()
    assert waiting.exception().code == "model_failed"


def test_a_request_for_a_model_that_was_replaced_reaches_no_other_one(play):
    """Its tokens are those of the model that has gone."""
    play.change(play.fleet.sleep("a", timeout_s=1))
    play.finish()
    play.change(play.fleet.remove("a", timeout_s=1))
    play.change(play.fleet.add(options_of("a")))
    late = play.ask("a")
    play.finish()
    assert play.world.status["a"] is Status.READY
    assert late.exception().code == "model_not_found"


@pytest.mark.parametrize("change, code, words", [("sleep", "model_asleep", "put to sleep"), ("remove", "model_removed", "removed")])
def test_an_answer_that_is_cut_off_says_why(play, change, code, words):
    play.world.hurry = True
    cut = play.ask("a")
    play.change(getattr(play.fleet, change)("a2", timeout_s=0))
    for _ in range(2):
        play.advance()
    error = cut.exception()
    assert (error.code, error.status, str(error)) == (code, 503, f"The model `a` was {words} before the answer was complete.")


def test_a_change_is_told_in_the_log_with_how_long_it_took(play, caplog):
    caplog.set_level("INFO", "muxjax.server.fleet")
    play.change(play.fleet.sleep("a", timeout_s=1))
    while play.stage.calls:
        play.advance()
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "the model a is put to sleep" and told[1].startswith("the model a is put to sleep: done in ")


SEA, FARM = (Path(muxjax.demo.__file__).parent / "data" / name for name in ("sea", "farm"))


def drafted(name: str, path: Path, by: str | None) -> ModelOptions:
    return ModelOptions(name=name, path=path, speculative_config=SpeculativeOptions(method="draft_model", model=by) if by else None)


def test_who_comes_in_place_of_a_draft_model_drafts_only_if_it_could_have_from_the_start(play):
    def outcome(change):
        task = play.change(change)
        play.finish()
        return task.exception()

    assert outcome(play.fleet.add(drafted("small", SEA, None))) is None
    assert outcome(play.fleet.add(drafted("big", SEA, "small"))) is None
    assert "small cannot draft for odd: " in str(outcome(play.fleet.add(drafted("odd", FARM, "small"))))
    assert outcome(play.fleet.remove("small", timeout_s=1)) is None
    assert play.fleet.options.models[-1].draft_model is None
    assert "small cannot draft for big: " in str(outcome(play.fleet.add(drafted("small", FARM, None))))
    assert "a model that has no draft model itself" in str(outcome(play.fleet.add(drafted("small", SEA, "big"))))
    assert outcome(play.fleet.add(drafted("small", SEA, None))) is None
    assert [model.draft_model for model in play.fleet.options.models[-2:]] == ["small", None]
