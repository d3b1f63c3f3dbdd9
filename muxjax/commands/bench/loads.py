"""The load that options name: when which model is asked, and with which body."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from muxjax.bench import dataset
from muxjax.bench.client.open_loop import Ask
from muxjax.bench.prompts import LONGEST, Body, Text, random_bodies, text_bodies
from muxjax.commands.bench.options import LoadOptions
from muxjax.errors import require
from muxjax.workload import load, presets
from muxjax.workload.arrivals import Arrivals, Deterministic, Gamma
from muxjax.workload.lengths import RequestLengths, fixed
from muxjax.workload.load import Load, Source
from muxjax.workload.trace import Arrival, Stream, capped

PROMPTS, SECONDS = 100, 60.0
"""Requests of a load, or seconds of a workload, where neither is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Requests of one seed.

    Args:
      at: the requests at a multiple of their rate; rate_rps: at that of 1, None where all come at once.
      path: of the endpoint.
    """

    at: Source
    body: Body
    rate_rps: float | None
    path: str

    def asks(self, arrivals: Load) -> Iterator[Ask]:
        """All of a load, each made when it is asked for."""
        return (self.ask(number, arrival) for number, arrival in enumerate(arrivals.arrivals))

    def ask(self, number: int, arrival: Arrival) -> Ask:
        return Ask(arrival.time_s, arrival.model, arrival.prompt_tokens, self.body(number, arrival))


def asked(options: LoadOptions, models: Sequence[str], seed: int) -> Asked:
    """What the options ask of models.

    Args:
      models: who is asked, where neither trace nor workload names them.
    Raises:
      ConfigError: a file that cannot be read, no such workload, a value outside its range.
    """
    extra = {"temperature": 0, **({"ignore_eos": True} if options.ignore_eos else {})}
    if options.dataset is None:
        require(options.endpoint != "chat", "endpoint", "chat", "completions where prompts are tokens; --dataset has texts")
        source, rate_rps = _source(options, models, seed)
        source = _short(source if options.max_model_len is None else _cut(source, options.max_model_len))
        return Asked(at=source, body=random_bodies(options.prompt_ids_below, seed, extra), rate_rps=rate_rps, path="/completions")
    texts = dataset.read(options.dataset, options.output_len)
    texts = [texts[place] for place in np.random.default_rng(seed).permutation(len(texts))]
    chat = _is_chat(options, texts)
    source, rate_rps = _source(options, models, seed)
    path = "/chat/completions" if chat else "/completions"
    return Asked(at=_of_texts(source, texts), body=text_bodies(texts, extra, chat=chat), rate_rps=rate_rps, path=path)


def rates(arrivals: Load) -> dict[str, float]:
    """Requests a second of each model, in the mean; their numbers where all come at once."""
    counts, seconds = Counter(arrival.model for arrival in arrivals.arrivals), arrivals.last_s or 1.0
    return {model: counts[model] / seconds for model in sorted(counts)}


def require_known(asked: Iterable[str], models: Collection[str]) -> None:
    """Raises ConfigError: a load asks models that are not there."""
    strangers = sorted(set(asked) - set(models))
    require(not strangers, "model", ", ".join(strangers[:5]), f"among {', '.join(models)}; --rename OLD=NEW calls them so")


def _source(options: LoadOptions, models: Sequence[str], seed: int) -> tuple[Source, float | None]:
    rename = load.renaming(options.rename)
    if (trace := options.trace_of(seed)) is not None:
        return _first(load.recorded(trace, options.format, rename), options.num_prompts)
    streams = presets.by_name(options.workload).streams if options.workload is not None else _streams(options, models)
    rate_rps = sum(stream.arrivals.rate_rps for stream in streams)
    if options.duration_s is not None or (options.workload is not None and options.num_prompts is None):
        return load.drawn(streams, options.duration_s or SECONDS, seed, rename), rate_rps
    source = load.counted(streams, options.num_prompts or PROMPTS, seed, rename)
    return (source, rate_rps) if options.workload is not None or options.rate < math.inf else (_at_once(source), None)


def _first(source: Source, count: int | None) -> tuple[Source, float]:
    """A trace, or the beginning of it, and its rate."""

    def at(scale: float) -> Load:
        whole = source(scale)
        return Load(arrivals=whole.arrivals[:count], window_s=whole.window_s)

    once = at(1.0)
    return at, len(once.arrivals) / (once.last_s or 1.0)


def _cut(source: Source, max_tokens: int) -> Source:
    def at(scale: float) -> Load:
        whole = source(scale)
        return Load(arrivals=capped(whole.arrivals, max_tokens), window_s=whole.window_s)

    return at


def _short(source: Source) -> Source:
    """The load, of which no prompt is longer than there are random tokens; ConfigError for another one."""

    def at(scale: float) -> Load:
        whole = source(scale)
        longest = max(arrival.prompt_tokens for arrival in whole.arrivals)
        require(longest <= LONGEST, "prompt_tokens", longest, f"at most {LONGEST}; --max-model-len cuts what is longer")
        return whole

    return at


def _at_once(source: Source) -> Source:
    arrivals = [arrival._replace(time_s=0.0) for arrival in source(1.0).arrivals]
    return lambda scale: Load(arrivals=arrivals, window_s=math.inf)


def _streams(options: LoadOptions, models: Sequence[str]) -> list[Stream]:
    """Each model as often as any other."""
    rate_rps = (1.0 if options.rate == math.inf else options.rate) / len(models)
    lengths = RequestLengths(prompt=fixed(options.random_input_len), output=fixed(options.random_output_len))
    return [Stream(model=model, arrivals=_arrivals(rate_rps, options.burstiness), lengths=lengths) for model in models]


def _arrivals(rate_rps: float, burstiness: float) -> Arrivals:
    return Deterministic(rate_rps=rate_rps) if burstiness == math.inf else Gamma(rate_rps=rate_rps, cv=burstiness**-0.5)


def _of_texts(source: Source, texts: Sequence[Text]) -> Source:
    """The arrivals with the lengths of the texts, which they take in turns."""

    def at(scale: float) -> Load:
        drawn = source(scale)
        own = (texts[number % len(texts)] for number in range(len(drawn.arrivals)))
        arrivals = [
            arrival._replace(prompt_tokens=text.length, output_tokens=text.output_tokens)
            for arrival, text in zip(drawn.arrivals, own, strict=True)
        ]
        return Load(arrivals=arrivals, window_s=drawn.window_s)

    return at


def _is_chat(options: LoadOptions, texts: Sequence[Text]) -> bool:
    """Raises ConfigError: prompts of another kind than the endpoint takes."""
    chats, tokens = any(text.is_chat for text in texts), any(isinstance(text.prompt, list) and not text.is_chat for text in texts)
    require(not (chats and tokens), "dataset", str(options.dataset), "of chats and texts, or of tokens and texts, not of all")
    chat = options.endpoint == "chat" or (options.endpoint is None and not tokens)
    require(chat or not chats, "endpoint", options.endpoint, "chat where prompts are messages")
    require(not chat or not tokens, "endpoint", options.endpoint, "completions where prompts are tokens")
    return chat
