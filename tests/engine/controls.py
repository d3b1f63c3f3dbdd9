"""A small model in a real unit, and what each of its requests must get: the dense model, token by token, with numpy and loops."""

import functools
from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from muxjax.buckets import Buckets
from muxjax.cache.layout import CacheLayout
from muxjax.device.executor import DeviceExecutor
from muxjax.device.lanes.arena import OwnArenas
from muxjax.device.model import DeviceModel
from muxjax.device.paged_memory import blocks_shape
from muxjax.engine.executor import Done, Step
from muxjax.engine.grammar import Grammars
from muxjax.engine.loop import turn
from muxjax.engine.model.config import ModelConfig
from muxjax.engine.speculation.method import Speculation
from muxjax.engine.unit import Unit
from muxjax.models import weights
from muxjax.models.sharding import OWN, Devices
from muxjax.scheduler.policies import by_name
from muxjax.types import Output, Request, Sampling
from tests.device.test_step import LAYOUT, SPEC, dense_logits
from tests.fake_device import FakeClock
from tests.programs import kept_programs

SLOTS, BUDGET, BLOCKS = 4, 16, 200
EOS = 63
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"


def tokenizer(*more: str) -> str:
    """A token a letter, the next one ends, and then more of them that the model does not have."""
    vocab = {letter: i for i, letter in enumerate(LETTERS)} | {"</s>": EOS}
    letters = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    letters.add_special_tokens(["</s>", *more])
    return letters.to_str()


def text_of(tokens: Iterable[int]) -> str:
    return "".join(LETTERS[token] for token in tokens if token != EOS)


@functools.cache
def grammars() -> Grammars:
    return Grammars(tokenizer(), vocab=SPEC.vocab, eos_ids=(EOS,))


class ControlledModel:
    """The model on tp devices. `steps` are those of the last run."""

    def __init__(self, tp: int = 1, *, pools: bool = False, decode_rows: int = SLOTS):
        devices, self.layout = Devices.first(tp), CacheLayout.of(SPEC.share(tp), element_bytes=4, block_bytes=LAYOUT.block_bytes)
        buckets = Buckets.of(self.layout, slots=decode_rows, max_tokens=SPEC.max_len, token_budget=BUDGET, prefill_rows=2, ragged=False)
        self.params = jax.tree.map(lambda leaf: 4 * leaf, weights.dummy(SPEC, devices))
        self.model = DeviceModel.empty(
            SPEC,
            self.params,
            layout=self.layout,
            buckets=buckets,
            slots=SLOTS,
            max_tokens=SPEC.max_len,
            devices=devices,
            pools=pools,
        )
        pool = blocks_shape(BLOCKS, LAYOUT.block_bytes, np.dtype("f4"), devices.each[0])
        needs = self.model.needs.of(self.model.shapes, pool)
        assert sum(1 for _ in self.model.compile(kept_programs(tp), needs)) == len(needs)
        self.executor = DeviceExecutor({"m": self.model}, OwnArenas(devices.joined(pool, OWN)))
        self.executor.warm_up()
        self.steps: list[Step] = []
        self._ended: list[Done] = []

    def run(
        self,
        requests: Iterable[Request],
        *,
        look_ahead: int = 2,
        blocks: int = BLOCKS,
        compiler: Grammars | None = None,
        speculation: Speculation | None = None,
        late: Mapping[int, Request] | None = None,
    ) -> tuple[dict[str, list[Output]], int]:
        """Outputs by request, and how often one was pre-empted.

        Args:
          late: requests that come when so many steps have been launched.
        """
        late = dict(late or {})
        compiler = compiler or grammars()
        config = ModelConfig(
            name="m",
            layout=self.layout,
            vocab=SPEC.vocab,
            grammars=compiler,
            slots=SLOTS,
            max_tokens=SPEC.max_len,
            pools=self.model.pools,
            speculation=speculation,
        )
        unit = Unit([config], total_blocks=blocks, token_budget=BUDGET, max_rows=2, look_ahead=look_ahead)
        outputs: dict[str, list[Output]] = {}
        self.steps = []
        for request in requests:
            unit.checker.check(request)
            unit.submit(request)
        while not unit.idle:
            if len(self.steps) in late:
                unit.submit(late.pop(len(self.steps)))
            for output in turn(unit, by_name("adbs"), self, FakeClock()):
                outputs.setdefault(output.request_id, []).append(output)
        return outputs, unit.stats().models[0].preemptions

    def launch(self, step: Step) -> None:
        self.steps.append(step)
        self.executor.launch(step)

    def collect(self, *, wait: bool) -> list[Done]:
        """As a device would that ends no step before it must, and then no other: every run is the same."""
        if not wait:
            return []
        first, *self._ended = self._ended or self.executor.collect(wait=True) or [None]
        return [first] if first else []

    def logits(self, text: list[int]) -> np.ndarray:
        """[V] behind a text, of the dense model."""
        padded = jnp.array(text + [0] * (SPEC.max_len - len(text)))
        return np.asarray(dense_logits(self.params, padded)[len(text) - 1])

    def expected(self, request: Request) -> list[int]:
        """Greedy tokens."""
        text, sampling = list(request.prompt), request.sampling
        matcher = grammars().matcher(sampling.grammar) if sampling.grammar else None
        while len(text) < request.most_tokens:
            logits = adjusted(self.logits(text), sampling, list(request.prompt), text[len(request.prompt) :])
            if matcher:
                allowed = matcher.bits()
                logits = [value if allowed[v // 32] >> (v % 32) & 1 else -np.inf for v, value in enumerate(logits)]
            text.append(int(np.argmax(logits)))
            if matcher:
                matcher.take(text[-1])
            if text[-1] in sampling.stop_token_ids or (matcher and text[-1] == EOS):
                break
        return text[len(request.prompt) :]


def adjusted(logits: np.ndarray, sampling: Sampling, prompt: list[int], made: list[int]) -> list[float]:
    return [_adjusted(float(value), v, sampling, prompt, made) for v, value in enumerate(logits)]


def _adjusted(value: float, token: int, sampling: Sampling, prompt: list[int], made: list[int]) -> float:
    if token in prompt or token in made:
        value = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
    value -= sampling.presence_penalty * (token in made) + sampling.frequency_penalty * made.count(token)
    value += sum(bias for other, bias in sampling.logit_bias if other == token)
    return -np.inf if any(_bans(token, sampling, prompt, made)) else value


def _bans(token: int, sampling: Sampling, prompt: list[int], made: list[int]) -> Iterator[bool]:
    text = [*prompt, *made, token]
    yield sampling.allowed_token_ids is not None and token not in sampling.allowed_token_ids
    yield len(made) < sampling.min_tokens and token in sampling.stop_token_ids
    for words in sampling.bad_words:
        yield text[-len(words) :] == list(words)
