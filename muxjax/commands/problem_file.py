"""A placement problem written in YAML (docs/placement.md): a cluster, chips, and models with their rates, lengths and targets."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from muxjax.cost.chip import CHIPS, Chip
from muxjax.engine.options import ModelOptions
from muxjax.errors import ConfigError, require, shown
from muxjax.model_spec import ModelSpec
from muxjax.placement.problem import Cluster, Demand, Pool, Problem
from muxjax.quantization import WEIGHTS
from muxjax.settings import Section, build, child, names, placed, read_yaml, section
from muxjax.specs import published
from muxjax.specs.config import read_spec
from muxjax.specs.reading.quantization import resident
from muxjax.workload.arrivals import Poisson
from muxjax.workload.lengths import RequestLengths, fixed, of_trace
from muxjax.workload.trace import Stream

MOST_RATE_RPS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """`Pool`, its chip by the name of one that is known or described under `chips`."""

    chip: str = "H200"
    nodes: int = 1
    devices_per_node: int = 8
    price: float | None = None

    def pool(self, chips: Mapping[str, Chip]) -> Pool:
        """The pool meant.

        Raises:
          ConfigError: no such chip, or a value outside its range.
        """
        require(self.chip in chips, "chip", self.chip, "one of " + ", ".join(chips))
        price = 1.0 if self.price is None else self.price
        return Pool(chip=chips[self.chip], nodes=self.nodes, devices_per_node=self.devices_per_node, price=price)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandOptions:
    """`Demand`, its shape by name or by the folder of a checkpoint.

    Args:
      shape: of `muxjax.specs.published`; path: a folder with config.json. One of them.
      rate: requests a second; ttft, tpot: targets in seconds of the mean time to the first token and of the mean time per output token.
      weight: in the objective; weights, cache: how they are held.
      lengths: a public trace whose mean lengths count where prompt_tokens or output_tokens are not given.
    """

    name: str
    rate: float
    shape: str | None = None
    path: Path | None = None
    lengths: str = "sharegpt"
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    weight: float = 1.0
    weights: str = "bf16"
    cache: str = "bf16"

    def __post_init__(self):
        require(0 < self.rate <= MOST_RATE_RPS, "rate", self.rate, f"over 0, to {MOST_RATE_RPS}")

    def demand(self) -> Demand:
        """The demand meant; errors name its fields as the file does.

        Raises:
          ConfigError: no such shape, checkpoint or trace, or a value outside its range.
        """
        lengths = of_trace(self.lengths)
        return Demand(
            name=self.name,
            spec=_held(self._spec(), self.weights),
            rate_rps=self.rate,
            prompt_tokens=lengths.prompt.mean_tokens if self.prompt_tokens is None else self.prompt_tokens,
            output_tokens=lengths.output.mean_tokens if self.output_tokens is None else self.output_tokens,
            ttft_s=self.ttft,
            tpot_s=self.tpot,
            weight=self.weight,
            weights=self.weights,
            cache=self.cache,
        )

    def stream(self) -> Stream:
        """Requests that come at random at the rate, with lengths of the trace, or always of the tokens given."""
        drawn = of_trace(self.lengths)
        choices = [(self.prompt_tokens, drawn.prompt), (self.output_tokens, drawn.output)]
        prompt, output = (lengths if tokens is None else fixed(round(tokens)) for tokens, lengths in choices)
        return Stream(model=self.name, arrivals=Poisson(rate_rps=self.rate), lengths=RequestLengths(prompt=prompt, output=output))

    def _spec(self) -> ModelSpec:
        require((self.shape is None) != (self.path is None), "shape", self.shape, "given where path is not, and not beside it")
        if self.path is not None:
            return read_spec(self.path)
        require(self.shape in published.BY_NAME, "shape", self.shape, "one of " + ", ".join(published.BY_NAME))
        return published.BY_NAME[str(self.shape)]


def read_problem(path: Path, served: Iterable[ModelOptions] = ()) -> Problem:
    """The problem that a file describes.

    Args:
      served: models whose own options may have weights and cache in fewer bits than the file says.
    Raises:
      ConfigError: with file and line: unreadable, an unknown key, or a value outside its range.
    """
    problem = read_yaml(path, lambda loader, node: _problem(loader, node, path))
    options = {model.name: model for model in served}
    demands = (_as_served(demand, options[demand.name]) if demand.name in options else demand for demand in problem.demands)
    return replace(problem, demands=tuple(demands))


def _as_served(demand: Demand, options: ModelOptions) -> Demand:
    """The demand with what its options have in fewer bits."""
    weights = "fp8" if options.quantization and demand.weights == "bf16" else demand.weights
    cache = "fp8" if options.has_fp8_cache and demand.cache == "bf16" else demand.cache
    return replace(demand, spec=_held(demand.spec, weights), weights=weights, cache=cache)


def _held(spec: ModelSpec, weights: str) -> ModelSpec:
    """The shape as it would be served with its weights in fp8: matrices of its layers are, and all else has 16 bits.

    Raises:
      ConfigError: it cannot be.
    """
    if weights != "fp8" or spec.quantization:
        return spec
    return replace(spec, quantization=resident(spec, None, WEIGHTS))


def read_streams(path: Path) -> tuple[Stream, ...]:
    """The requests that the problem's models get.

    Raises:
      ConfigError: as of `read_problem`.
    """
    return read_yaml(path, lambda loader, node: tuple(build(DemandOptions, written).stream() for written in _models(loader, node, path)))


def _problem(loader: yaml.SafeLoader, node: yaml.Node | None, path: Path) -> Problem:
    top = section(loader, path, node, names(Problem) - {"demands"} | {"models", "chips"})
    chips = dict(CHIPS) | _chips(loader, child(node, "chips"), path)
    demands = tuple(map(_demand, _models(loader, node, path)))
    cluster = _cluster(loader, child(node, "cluster"), path, chips)
    problem = build(Problem, top, demands=demands, cluster=cluster)
    priced = ["price" in written for written in _pools(loader, child(node, "cluster"), path)]
    differ = any(priced) or len({pool.chip for pool in cluster.pools}) > 1
    if problem.objective == "least-cost" and differ and not all(priced):
        raise ConfigError(f"{path}: least-cost needs the price of each kind of nodes", field="price")
    return problem


def _cluster(loader: yaml.SafeLoader, node: yaml.Node | None, path: Path, chips: Mapping[str, Chip]) -> Cluster:
    """One kind of nodes, or a list of several."""
    pools = []
    for own in _pools(loader, node, path):
        options = build(PoolOptions, own)
        with _at(own):
            pools.append(options.pool(chips))
    if node is None:
        return Cluster(tuple(pools))
    try:
        return Cluster(tuple(pools))
    except ConfigError as error:
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: {error}", field=error.field) from error


def _pools(loader: yaml.SafeLoader, node: yaml.Node | None, path: Path) -> list[Section]:
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [section(loader, path, one, names(PoolOptions)) if one else {} for one in nodes]


def _chips(loader: yaml.SafeLoader, node: yaml.Node | None, path: Path) -> dict[str, Chip]:
    """Chips that the file describes: all fields of one, or those in which it differs from the one that it is `like`."""
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: chips must be names, each with what the chip can do", field="chips")
    known = names(Chip) - {"name"} | {"like"}
    return {str(key.value): _chip(str(key.value), section(loader, path, value, known)) for key, value in node.value}


def _chip(name: str, written: Section) -> Chip:
    like = written.pop("like", None)
    if like is None:
        return build(Chip, written, name=name)
    if str(like.value) not in CHIPS:
        raise ConfigError(f"{like.where} must be one of {', '.join(CHIPS)}, got {shown(like.value)}", field="like")
    usual = asdict(CHIPS[str(like.value)]) | {"name": name}
    return build(Chip, written, **{field: value for field, value in usual.items() if field not in written})


def _models(loader: yaml.SafeLoader, node: yaml.Node | None, path: Path) -> list[Section]:
    models = child(node, "models")
    if not isinstance(models, yaml.SequenceNode):
        raise ConfigError(f"{path}: models must be a list of models, each with a name and a rate", field="models")
    return [section(loader, path, model, names(DemandOptions)) for model in models.value]


def _demand(written: Section) -> Demand:
    options = build(DemandOptions, written)
    with _at(written):
        try:
            return options.demand()
        except ConfigError as error:
            field = (error.field or "").rpartition(".")[2]
            if field in ("prompt_tokens", "output_tokens") and getattr(options, field) is None:
                raise ConfigError(f"{error}, the mean of {options.lengths}: give {field}", field=error.field) from error
            raise


@contextmanager
def _at(written: Section) -> Iterator[None]:
    """Errors are told with the line of the value that they are about, or of the section's first."""
    try:
        yield
    except ConfigError as error:
        field = (error.field or "").rpartition(".")[2]
        about = next((name for name in (field, field.removesuffix("_s"), field.removesuffix("_rps")) if name in written), None)
        if about is not None and about == error.field:
            raise placed(error, written[about]) from error
        raise ConfigError(f"{written[about or next(iter(written))].where}: {error}", field=error.field) from error
