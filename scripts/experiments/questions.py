"""The questions."""

from collections.abc import Sequence

from muxjax.workload import presets
from muxjax.workload.arrivals import Poisson
from muxjax.workload.lengths import RequestLengths, log_normal
from muxjax.workload.popularity import arena_27, power_law
from muxjax.workload.trace import Stream
from scripts.experiments.question import STATIC, STATIC_MPS, TRANSFORMERS, Question

CHAT = RequestLengths(prompt=log_normal(220, sigma=1.0, least=4, most=1024), output=log_normal(200, sigma=1.0, least=4, most=1024))
"""As of the preset llama-trio: 208 tokens in and 191 out in the mean."""
DOUBLE = RequestLengths(prompt=log_normal(440, sigma=0.7, least=4, most=1024), output=log_normal(400, sigma=0.7, least=4, most=1024))
HALF = RequestLengths(prompt=log_normal(110, sigma=1.0, least=4, most=512), output=log_normal(100, sigma=1.0, least=4, most=512))
"""In the mean, twice and half of CHAT."""
LONG = RequestLengths(prompt=log_normal(6000, sigma=0.3, least=2048, most=8000), output=log_normal(64, sigma=0.5, least=4, most=128))
TRIO = {"8b": "llama-3.1-8b", "3b": "llama-3.2-3b", "1b": "llama-3.2-1b"}
OURS = ("mux", "adbs", "turns", "spatial")
PARTS = ("mux", "lanes", "adbs", "turns", "static-memory", "spatial")
"""The resource manager taken apart: without its policy; on one lane; in turns; with fixed shares of memory, and of multiprocessors."""
POPULAR_RPS = 56.0
"""Of the model that is asked most."""


def stream(model: str, rate_rps: float, lengths: RequestLengths = CHAT) -> Stream:
    return Stream(model=model, arrivals=Poisson(rate_rps=rate_rps), lengths=lengths)


def popular(models: Sequence[str], alpha: float) -> tuple[Stream, ...]:
    """By a power law, the first asked most."""
    return tuple(stream(model, rate) for model, rate in zip(models, power_law(len(models), alpha, POPULAR_RPS), strict=True))


def trio(alpha: float, name: str, backends: tuple[str, ...] = (*OURS, STATIC_MPS)) -> Question:
    """Three models, the smallest asked most."""
    return Question(
        name=name,
        title=f"Three models on one GPU, rates by a power law of {alpha}: how much does each system serve within target?",
        models=TRIO,
        streams=popular(("1b", "3b", "8b"), alpha),
        backends=backends,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
    )


def _tail() -> Question:
    """The rates of the arena trace's 27 chat models; the five most popular are the larger ones."""
    names = [f"m{i:02}" for i in range(27)]
    shapes = {name: "llama-3.2-3b" if i < 5 else "llama-3.2-1b" for i, name in enumerate(names)}
    whole = 24.0 / sum(arena_27())
    return Question(
        name="long-tail",
        title="27 models on one GPU, most of them idle: are their requests within target?",
        models=shapes,
        streams=tuple(stream(name, rate * whole) for name, rate in zip(names, arena_27(), strict=True)),
        backends=("mux",),
        scales=(1.0, 2.0),
    )


def _day() -> Question:
    azure = {one.model: one for one in presets.by_name("azure-mix").streams}
    return Question(
        name="bursty-day",
        title="Conversation beside code completion that comes in bursts (Azure 2023) on one GPU: who keeps the targets?",
        models={"azure-conversation": "llama-3.1-8b", "azure-code": "llama-3.2-3b"},
        streams=tuple(azure.values()),
        backends=("mux", "turns", "spatial"),
        duration_s=40.0,
        scales=(2.0, 4.0),
        max_model_len=8192,
        max_num_seqs=128,
    )


def _siblings(count: int) -> Question:
    names = [f"s{i}" for i in range(count)]
    return Question(
        name=f"siblings-{count}",
        title=f"{count} equal models on one GPU, rates by a power law of 1.3: how much does each system serve within target?",
        models=dict.fromkeys(names, "llama-3.2-3b"),
        streams=popular(names, 1.3),
        backends=OURS,
        scales=(0.5, 0.75, 1.0, 1.25, 1.5),
    )


_ALL = (
    Question(
        name="one-model-offline",
        title="One model alone, 512 requests at once: how many tokens a second does each system make?",
        models={"8b": "llama-3.1-8b"},
        streams=(stream("8b", 1.0),),
        at_once=512,
        backends=("mux", STATIC, TRANSFORMERS, "vllm"),
    ),
    Question(
        name="one-model",
        title="One model alone, over its rate: what do streams get of each system?",
        models={"8b": "llama-3.1-8b"},
        streams=(stream("8b", 8.0),),
        backends=("mux", STATIC, TRANSFORMERS, "vllm"),
        scales=(0.25, 1.0, 2.0, 3.0, 4.0),
    ),
    trio(1.3, "three-models", (*PARTS, STATIC_MPS)),
    trio(0.7, "three-models-07"),
    trio(2.1, "three-models-21"),
    Question(
        name="two-models",
        title="Two models on one GPU, the smaller asked 2.5 times as often: how much does each system serve within target?",
        models={name: TRIO[name] for name in ("8b", "1b")},
        streams=popular(("1b", "8b"), 1.3),
        backends=OURS,
        scales=(0.75, 1.0, 1.5, 2.0),
    ),
    _siblings(6),
    Question(
        name="ablation-288",
        title="Three equal models, rates 2:8:8 and lengths 2:1:1, asked more than they can serve: what does the schedule make of it?",
        models=dict.fromkeys("abc", "llama-3.2-3b"),
        streams=(stream("a", 12.0, DOUBLE), stream("b", 48.0), stream("c", 48.0)),
        backends=("mux", "adbs", "round-robin", "turns"),
        duration_s=12.0,
        enough=0.0,
    ),
    Question(
        name="ablation-18",
        title="Two equal models, rates 1:8 and lengths 4:1, asked more than they can serve: what does the schedule make of it?",
        models=dict.fromkeys("ab", "llama-3.2-3b"),
        streams=(stream("a", 18.0, DOUBLE), stream("b", 144.0, HALF)),
        backends=("mux", "adbs", "round-robin", "turns"),
        duration_s=12.0,
        enough=0.0,
    ),
    _day(),
    _tail(),
    Question(
        name="long-neighbour",
        title="A model of long prompts beside one that chats: what do the chats' streams feel?",
        models={"long": "llama-3.1-8b", "chat": "llama-3.2-1b"},
        streams=(stream("long", 2.0, LONG), stream("chat", 20.0)),
        backends=("mux", "turns", "spatial"),
        enough=0.0,
        max_model_len=8192,
        max_num_seqs=128,
    ),
)
BY_NAME = {question.name: question for question in _ALL}
