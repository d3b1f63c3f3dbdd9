"""Workloads by name: who asks, how often, when and how much."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from muxjax.errors import ConfigError, require
from muxjax.workload.arrivals import Gamma, OnOff, Poisson
from muxjax.workload.lengths import RequestLengths, log_normal, of_trace
from muxjax.workload.popularity import arena_27, known, lmsys_16, power_law
from muxjax.workload.trace import Arrival, Prefixes, Stream, generate

NAMES = ("lmsys-16", "powerlaw-N", "arena-27", "azure-mix", "agent-prefix", "reasoning", "burst", "llama-trio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Streams of requests, of different models.

    Args:
      about: what it is for, what is its source's and what is assumed.
    """

    name: str
    about: str
    streams: tuple[Stream, ...]

    @property
    def rates(self) -> dict[str, float]:
        """Requests a second of each model."""
        return {stream.model: stream.arrivals.rate_rps for stream in self.streams}

    def scaled(self, factor: float) -> "Workload":
        """With all rates multiplied; coefficients of variation of gamma arrivals and lengths of on and off phases stay.

        Raises:
          ConfigError: the factor is not over 0 and finite, or a rate gets out of its limits.
        """
        require(0 < factor < float("inf"), "rate_scale", factor, "over 0 and finite")
        return replace(self, streams=tuple(_faster(stream, factor) for stream in self.streams))

    def trace(self, duration_s: float, seed: int) -> list[Arrival]:
        """Requests in order of arrival; same seed, same trace."""
        return generate(self.streams, duration_s, seed)


def by_name(name: str, *, rate_scale: float = 1.0) -> Workload:
    """One of NAMES, with a number for N such as "powerlaw-19"; its rates multiplied by rate_scale.

    Raises:
      ConfigError: an unknown name, or a scale out of its limits.
    """
    if match := re.fullmatch(r"powerlaw-(\d{1,4})", name):
        return powerlaw(int(match[1])).scaled(rate_scale)
    if name not in _MAKERS:
        raise ConfigError(f"workload must be one of {', '.join(NAMES)} (N models), got {name!r}", field="workload")
    return _MAKERS[name]().scaled(rate_scale)


def powerlaw(models: int) -> Workload:
    """MuxServe's synthetic workload, of 19 models there; its shapes in the same proportions for other numbers.

    Raises:
      ConfigError: as popularity.power_law.
    """
    rates = power_law(models, alpha=0.9, top_rps=20.0)
    shapes = _spread(known("popularity", "muxserve-synthetic")["shapes"], models)
    return Workload(
        name=f"powerlaw-{models}",
        about="MuxServe's synthetic workload: alpha 0.9 under 20 req/s, Poisson, ShareGPT; the smallest are asked most",
        streams=_poisson(rates, "sharegpt", shapes),
    )


def _lmsys_16() -> Workload:
    rates = lmsys_16()
    return Workload(
        name="lmsys-16",
        about="MuxServe's LMSYS replay at its highest load (scale 0.25 to 0.8 for the others), with lengths of LMSYS-Chat-1M's first turns,"
        " somewhat shorter than the replay's; which shape has which rate is assumed: the largest rates to the smallest",
        streams=_poisson(rates, "lmsys-chat-1m", _spread(known("popularity", "lmsys-16")["shapes"], len(rates))),
    )


def _arena_27() -> Workload:
    cv = known("arrivals", "arena-27")["cv"]
    return Workload(
        name="arena-27",
        about="27 chat models, few of them active at a time; each model's gaps have the variation of all together",
        streams=tuple(
            Stream(model=f"arena-{i:02}", arrivals=Gamma(rate_rps=rate, cv=cv), lengths=of_trace("arena-27"))
            for i, rate in enumerate(arena_27())
        ),
    )


def _azure_mix() -> Workload:
    chat, code = known("arrivals", "azure-2023-conversation"), known("arrivals", "azure-2023-code")
    # An interrupted Poisson process of the trace's mean, peak and coefficient of variation.
    on_frac = code["rate_rps"] / (code["peak_per_minute"] / 60)
    on_s = (code["cv"] ** 2 - 1) * on_frac / (2 * code["rate_rps"] * (1 - on_frac) ** 2)
    bursts = OnOff(rate_rps=code["rate_rps"], on_s=on_s, off_s=on_s * (1 - on_frac) / on_frac)
    return Workload(
        name="azure-mix",
        about="the two Azure 2023 services side by side: conversation, nearly Poisson, and code completion, on and off",
        streams=(
            Stream(
                model="azure-conversation",
                arrivals=Gamma(rate_rps=chat["rate_rps"], cv=chat["cv"]),
                lengths=of_trace("azure-2023-conversation"),
            ),
            Stream(model="azure-code", arrivals=bursts, lengths=of_trace("azure-2023-code")),
        ),
    )


def _agent_prefix() -> Workload:
    rate = known("arrivals", "mooncake-conversation")["rate_rps"]
    streams = tuple(
        Stream(
            model=f"agent-{i}",
            arrivals=Poisson(rate_rps=rate * share),
            lengths=of_trace("mooncake-conversation"),
            prefixes=Prefixes(groups=64, tokens=2048),
        )
        for i, share in enumerate((0.5, 0.3, 0.2))
    )
    return Workload(
        name="agent-prefix",
        about="long prompts with shared beginnings (tools and instructions): rate and lengths of Mooncake; three models and 64 prefixes of"
        " 2048 tokens each are assumed",
        streams=streams,
    )


def _reasoning() -> Workload:
    return Workload(
        name="reasoning",
        about="long outputs: lengths of DeepSeek-R1 in ServeGen; four models by a power law under 1 req/s, Poisson, are assumed",
        streams=_poisson(power_law(4, 0.9, 1.0), "servegen-deepseek-r1", [None] * 4),
    )


def _burst() -> Workload:
    return Workload(
        name="burst",
        about="eight models, each silent for five sixths of the time (10 s on, 50 s off), ShareGPT; all assumed",
        streams=tuple(
            Stream(model=f"burst-{i}", arrivals=OnOff(rate_rps=1.0, on_s=10, off_s=50), lengths=of_trace("sharegpt")) for i in range(8)
        ),
    )


def _llama_trio() -> Workload:
    lengths = RequestLengths(prompt=log_normal(220, sigma=1.0, least=4, most=1024), output=log_normal(200, sigma=1.0, least=4, most=1024))
    models = (("8b", "llama-3.1-8b", 20.0), ("3b", "llama-3.2-3b", 24.0), ("1b", "llama-3.2-1b", 48.0))
    return Workload(
        name="llama-trio",
        about="three models on one GPU, the smallest asked most: Poisson, log-normal lengths of 208 tokens in and 191 out in the mean; for"
        " 40 s one H200 serves it with room, and not the same requests in a third of the time; all assumed",
        streams=tuple(Stream(model=model, arrivals=Poisson(rate_rps=rate), lengths=lengths, shape=shape) for model, shape, rate in models),
    )


_MAKERS = {
    "lmsys-16": _lmsys_16,
    "arena-27": _arena_27,
    "azure-mix": _azure_mix,
    "agent-prefix": _agent_prefix,
    "reasoning": _reasoning,
    "burst": _burst,
    "llama-trio": _llama_trio,
}


def _poisson(rates: Sequence[float], trace: str, shapes: Sequence[str | None]) -> tuple[Stream, ...]:
    lengths, digits = of_trace(trace), len(str(len(rates) - 1))
    return tuple(
        Stream(model=f"{shape or trace}-{i:0{digits}}", arrivals=Poisson(rate_rps=rate), lengths=lengths, shape=shape)
        for i, (rate, shape) in enumerate(zip(rates, shapes, strict=True))
    )


def _spread(counts: dict[str, int], models: int) -> list[str]:
    """As many shapes, in the order and the proportions of the counts."""
    listed = [shape for shape, count in counts.items() for _ in range(count)]
    return [listed[i * len(listed) // models] for i in range(models)]


def _faster(stream: Stream, factor: float) -> Stream:
    return replace(stream, arrivals=replace(stream.arrivals, rate_rps=stream.arrivals.rate_rps * factor))
