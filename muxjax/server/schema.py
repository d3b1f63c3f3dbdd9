"""OpenAI's JSON to a `Generation`. Nothing after it checks what a client sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.catalog import Catalog, ServedModel
from muxjax.server.fields import Fields, is_token, show, strings
from muxjax.server.messages import read_messages
from muxjax.server.unsupported import refuse_unsupported
from muxjax.types import Request, Sampling

MOST_PROMPTS = 1024
MOST_SAMPLES = 128
MOST_CHOICES = 4096
MOST_STOPS = 4
_GREEDY_BELOW = 1e-5
_INT64 = 2**63
_COMPLETION_TOKENS = 16
_HARMLESS = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key"),
        *("priority", "request_id", "cache_salt"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What the server adds to a client's request.

    Args:
      id: of the answer, unlike any other.
      created: Unix time in seconds.
      arrival_s: on the engine's clock.
      seed: of a request that names none.
    """

    id: str
    created: int
    arrival_s: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One client's request: n samples of each prompt, and how it wants them told.

    Args:
      asked: the name by which the client called the model.
      requests: sample j of prompt i at i * n + j, which is the choice's index.
      stop_token_ids: those of the client, without the model's own.
      usage_at_end, usage_always: events of a stream that count tokens.
      unknown: fields that were not understood.
    """

    stamp: Stamp
    model: ServedModel
    asked: str
    requests: tuple[Request, ...]
    n: int
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    stream: bool
    usage_at_end: bool
    usage_always: bool
    unknown: tuple[str, ...]

    @property
    def prompt_tokens(self) -> int:
        """Each prompt counted once."""
        return sum(len(request.prompt) for request in self.requests[:: self.n])


def parse_completion(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Generation:
    """Of a body of /v1/completions.

    Raises:
      RequestError: with OpenAI's status, code and the field's name.
    """
    fields = Fields(body)
    model = catalog.find(fields.text("model"))
    refuse_unsupported(fields, chat=False)
    prompts = _prompts(fields, model)
    wanted = fields.integer("max_tokens", _COMPLETION_TOKENS, 1, _INT64)
    return _generation(fields, model, prompts, wanted, stamp, param="prompt")


def parse_chat(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Generation:
    """Of a body of /v1/chat/completions.

    Raises:
      RequestError: with OpenAI's status, code and the field's name.
    """
    fields = Fields(body)
    model = catalog.find(fields.text("model"))
    refuse_unsupported(fields, chat=True)
    if model.template is None:
        raise RequestError(f"The model `{model.name}` has no chat template: use /v1/completions, or start it with one.", param="model")
    extra = fields.object("chat_template_kwargs")
    answer = fields.flag("add_generation_prompt", True)
    text = model.template.render(read_messages(fields), answer=answer, extra=extra.raw if extra else None)
    allowed = fields.integer("max_tokens", None, 1, _INT64)
    wanted = fields.integer("max_completion_tokens", allowed, 1, _INT64)
    return _generation(fields, model, [model.text.encode(text, special=False)], wanted, stamp, param="messages")


def _generation(
    fields: Fields, model: ServedModel, prompts: Sequence[tuple[int, ...]], wanted: int | None, stamp: Stamp, *, param: str
) -> Generation:
    n = fields.integer("n", 1, 1, MOST_SAMPLES)
    if n * len(prompts) > MOST_CHOICES:
        raise RequestError(f"n times the number of prompts must be at most {MOST_CHOICES}, got {n * len(prompts)}", param="n")
    own_stops = _token_ids(fields, "stop_token_ids", model)
    stream = fields.flag("stream")
    at_end, always = _usage_wishes(fields, stream)
    sampling = _sampling(fields, model, own_stops)
    seed = fields.integer("seed", None, -_INT64, _INT64 - 1)
    requests = tuple(
        Request(
            id=f"{stamp.id}-{index}",
            model=model.name,
            prompt=prompts[index // n],
            sampling=replace(
                sampling,
                max_tokens=_allowed(model, prompts[index // n], wanted, param),
                seed=_wrapped(stamp.seed + index if seed is None else seed + index % n),
            ),
            arrival_s=stamp.arrival_s,
        )
        for index in range(n * len(prompts))
    )
    return Generation(
        stamp=stamp,
        model=model,
        asked=fields.text("model") or model.name,
        requests=requests,
        n=n,
        stop=strings(fields, "stop", MOST_STOPS),
        stop_token_ids=own_stops,
        stream=stream,
        usage_at_end=at_end,
        usage_always=always,
        unknown=tuple(sorted(fields.unread() - _HARMLESS)),
    )


def _sampling(fields: Fields, model: ServedModel, own_stops: frozenset[int]) -> Sampling:
    defaults = model.defaults
    temperature = fields.number("temperature", defaults.temperature, 0, 2)
    top_k = fields.integer("top_k", defaults.top_k, -1, 2**31 - 1)
    ends = () if fields.flag("ignore_eos") else model.spec.eos_ids
    return Sampling(
        temperature=0.0 if temperature < _GREEDY_BELOW else temperature,
        top_k=max(top_k, 0),
        top_p=fields.number("top_p", defaults.top_p, 0, 1),
        min_p=fields.number("min_p", 0.0, 0, 1),
        stop_token_ids=own_stops | frozenset(ends),
    )


def _wrapped(seed: int) -> int:
    """The seed as a signed 64-bit number."""
    return (seed + _INT64) % (2 * _INT64) - _INT64


def _allowed(model: ServedModel, prompt: Sequence[int], wanted: int | None, param: str) -> int:
    """Tokens to generate at most: what is wanted, within the rest of the context."""
    room = model.max_model_len - len(prompt)
    if room < 1:
        raise RequestError(
            f"This model's maximum context length is {model.max_model_len} tokens. However, your {param} has {len(prompt)} tokens, "
            "which leaves no room for an answer. Please shorten it.",
            param=param,
            code="context_length_exceeded",
        )
    return room if wanted is None else min(wanted, room)


def _prompts(fields: Fields, model: ServedModel) -> list[tuple[int, ...]]:
    """A string, token ids, or a list of either; token ids are taken as they are."""
    value = fields.required("prompt")
    special = fields.flag("add_special_tokens", True)
    single = isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(item, int) for item in value))
    listed = [value] if single else value
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_PROMPTS:
        raise fields.error("prompt", f"must be a string, token ids, or a list of 1 to {MOST_PROMPTS} of them, got {show(value)}")
    return [model.text.encode(item, special=special) if isinstance(item, str) else _tokens(fields, item, model) for item in listed]


def _tokens(fields: Fields, value: object, model: ServedModel) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(is_token(token, model.spec.vocab) for token in value):
        raise fields.error("prompt", f"must hold strings or token ids from 0 to {model.spec.vocab - 1}, got {show(value)}")
    return tuple(value)


def _token_ids(fields: Fields, name: str, model: ServedModel) -> frozenset[int]:
    value = fields.get(name)
    value = [] if value is None else value
    if not isinstance(value, list) or not all(is_token(token, model.spec.vocab) for token in value):
        raise fields.error(name, f"must be a list of token ids from 0 to {model.spec.vocab - 1}, got {show(value)}")
    return frozenset(value)


def _usage_wishes(fields: Fields, stream: bool) -> tuple[bool, bool]:
    options = fields.object("stream_options")
    if options is None:
        return False, False
    if not stream:
        raise fields.error("stream_options", "needs stream to be true")
    return options.flag("include_usage"), options.flag("continuous_usage_stats")
