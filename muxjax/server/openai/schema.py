"""OpenAI's JSON to a `Generation`. Nothing after it checks what a client sent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from muxjax.errors import RequestError
from muxjax.server.answers.form import AnswerForm, answer_form
from muxjax.server.answers.renamed import renamed
from muxjax.server.catalog import Catalog, ServedModel
from muxjax.server.generation import Generation, Stamp
from muxjax.server.openai.fields import Fields, strings, token_ids
from muxjax.server.openai.grammar import read_grammar
from muxjax.server.openai.legacy_functions import LEGACY_NAMES, is_legacy, modern
from muxjax.server.openai.prompts import Prompt, read_chat, read_prompts, room
from muxjax.server.openai.sampling import read_logprobs, read_sampling
from muxjax.server.openai.tools import read_tools
from muxjax.server.openai.unsupported import refuse_unsupported
from muxjax.types import MOST_LOGPROBS, MOST_PRIORITY, Grammar, Request, Sampling

MOST_SAMPLES = 128
MOST_CHOICES = 4096
MOST_STOPS = 64
MOST_STOP_CHARACTERS = 1024
"""Of one of them: so much of an answer may be held back, and looked through for each token."""
_MOST_UNKNOWN = 100
_END_TOKENS = 32
"""Of a prompt's end, by which reasoning may be opened."""
_INT64 = 2**63
_COMPLETION_TOKENS = 16
_HARMLESS = frozenset(
    {
        *("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key"),
        *("reasoning_effort", "verbosity", "prediction", "prompt_cache_retention", "include_reasoning"),
        "request_id",
    }
)
"""Fields that are known and change no answer of ours: hints to other servers, labels, and what is decided elsewhere."""


def parse_completion(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Generation:
    """The generation that a body of /v1/completions asks for.

    Raises:
      RequestError: with OpenAI's status, code and the field's name.
    """
    fields = Fields(body)
    model = catalog.find(fields.text("model"))
    refuse_unsupported(fields, chat=False)
    prompts = read_prompts(fields, model)
    echo = fields.flag("echo")
    max_tokens = fields.integer("max_tokens", _COMPLETION_TOKENS, 0 if echo else 1, _INT64)
    return _generation(fields, model, prompts, max_tokens, stamp, param="prompt", echo=echo)


def parse_chat(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Generation:
    """The generation that a body of /v1/chat/completions asks for.

    Raises:
      RequestError: with OpenAI's status, code and the field's name.
    """
    if not is_legacy(body):
        return _chat(body, catalog, stamp)
    try:
        return _chat(body, catalog, stamp)
    except RequestError as error:
        raise renamed(error, LEGACY_NAMES) from error


def _chat(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Generation:
    fields = Fields(modern(body))
    model = catalog.find(fields.text("model"))
    refuse_unsupported(fields, chat=True)
    tools = read_tools(fields, model)
    prompt = read_chat(fields, model, tools)
    end = model.tokenizer.decode(prompt.tokens[-_END_TOKENS:], special=True) if model.dialect.reasoning else ""
    form = answer_form(model.dialect, tools, prompt_end=end, continued=fields.flag("continue_final_message"))
    allowed = fields.integer("max_tokens", model.defaults.max_tokens, 1, _INT64)
    max_tokens = fields.integer("max_completion_tokens", allowed, 1, _INT64)
    return _generation(fields, model, [prompt], max_tokens, stamp, param="messages", form=form, legacy=is_legacy(body))


def _generation(
    fields: Fields,
    model: ServedModel,
    prompts: Sequence[Prompt],
    max_tokens: int | None,
    stamp: Stamp,
    *,
    param: str,
    echo: bool = False,
    form: AnswerForm | None = None,
    legacy: bool = False,
) -> Generation:
    n = _samples(fields, len(prompts))
    stream = fields.flag("stream")
    at_end, always = _usage_wishes(fields, stream)
    logprobs = read_logprobs(fields, chat=param == "messages")
    of_prompt = _prompt_logprobs(fields, stream)
    special = not fields.flag("skip_special_tokens", True)
    counts = [most for most in (of_prompt, logprobs if echo else None) if most is not None]
    sampling = read_sampling(
        fields, model, grammar=_grammar(fields, model, form), logprobs=logprobs, prompt_logprobs=max(counts, default=None)
    )
    return Generation(
        stamp=stamp,
        model=model,
        model_name=fields.text("model") or model.name,
        requests=_requests(fields, model, prompts, sampling, stamp, max_tokens=max_tokens, n=n, param=param),
        n=n,
        stop=model.defaults.stop if fields.get("stop") is None else strings(fields, "stop", MOST_STOPS, MOST_STOP_CHARACTERS),
        stop_token_ids=frozenset(token_ids(fields, "stop_token_ids", model.spec.vocab)),
        show_stop=fields.flag("include_stop_str_in_output"),
        show_special=special,
        silent=max_tokens == 0,
        echo=tuple(_shown(model, prompt, special=special) for prompt in prompts) if echo else (),
        logprobs=logprobs,
        prompt_logprobs=of_prompt,
        token_ids=fields.flag("return_token_ids"),
        form=form,
        legacy_functions=legacy,
        stream=stream,
        usage_at_end=at_end or (stream and stamp.tells_usage),
        usage_always=always,
        unknown=unknown_fields(fields),
    )


def unknown_fields(fields: Fields) -> tuple[str, ...]:
    """Fields that nothing has asked for, without those that ask for nothing."""
    return tuple(sorted(set(fields.unread(_MOST_UNKNOWN)) - _HARMLESS))


def _samples(fields: Fields, prompts: int) -> int:
    n = fields.integer("n", 1, 1, MOST_SAMPLES)
    if n * prompts > MOST_CHOICES:
        raise RequestError(f"n times the number of prompts must be at most {MOST_CHOICES}, got {n * prompts}", param="n")
    return n


def _requests(
    fields: Fields,
    model: ServedModel,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    stamp: Stamp,
    *,
    max_tokens: int | None,
    n: int,
    param: str,
) -> tuple[Request, ...]:
    """One for each choice."""
    seed, salt = fields.integer("seed", None, -_INT64, _INT64 - 1), read_salt(fields)
    priority = read_priority(fields)
    wanted = fields.integer("min_tokens", None, 0, _INT64 if max_tokens is None else max_tokens)
    least = [model.defaults.least_tokens(len(prompt.tokens)) if wanted is None else wanted for prompt in prompts]
    rooms = [room(model, prompt.tokens, param) for prompt in prompts]
    most = [left if max_tokens is None else min(max(max_tokens, 1), left) for left in rooms]
    return tuple(
        stamp.request(
            index,
            model,
            prompts[index // n].tokens,
            replace(
                sampling,
                max_tokens=most[index // n],
                min_tokens=min(least[index // n], most[index // n]),
                seed=_wrapped(stamp.seed + index if seed is None else seed + index % n),
            ),
            priority=priority,
            cache_salt=salt,
        )
        for index in range(n * len(prompts))
    )


def read_priority(fields: Fields) -> int:
    """As of `Request`."""
    return fields.integer("priority", 0, -MOST_PRIORITY, MOST_PRIORITY)


def read_salt(fields: Fields) -> str:
    """As of `Request`.

    Raises:
      RequestError: no text that could be told to another process.
    """
    salt = fields.text("cache_salt") or ""
    try:
        salt.encode()
    except UnicodeEncodeError as error:
        raise RequestError("cache_salt has half of a surrogate pair", param="cache_salt") from error
    return salt


def _wrapped(seed: int) -> int:
    """The seed as a signed 64-bit number."""
    return (seed + _INT64) % (2 * _INT64) - _INT64


def _grammar(fields: Fields, model: ServedModel, form: AnswerForm | None) -> Grammar | None:
    grammar = read_grammar(fields, model.max_grammar_characters)
    if form is None:
        return grammar
    if form.must_call and fields.get("structured_outputs"):
        raise fields.error("tool_choice", "cannot be given together with structured_outputs, where a tool must be called")
    if form.excludes(grammar):
        why = f"the calls of `{model.name}` begin like such an answer"
        raise fields.error("tool_choice", f"cannot be given together with response_format or structured_outputs: {why}")
    return form.grammar(grammar)


def _prompt_logprobs(fields: Fields, stream: bool) -> int | None:
    most = fields.integer("prompt_logprobs", None, 0, MOST_LOGPROBS)
    if stream and most is not None:
        raise fields.error("prompt_logprobs", "cannot be streamed")
    return most


def _shown(model: ServedModel, prompt: Prompt, *, special: bool) -> str:
    """The prompt as the client wrote it, or else as its tokens read."""
    return model.tokenizer.decode(prompt.tokens, special=special) if prompt.text is None else prompt.text


def _usage_wishes(fields: Fields, stream: bool) -> tuple[bool, bool]:
    options = fields.object("stream_options")
    if options is None:
        return False, False
    if not stream:
        raise fields.error("stream_options", "needs stream to be true")
    return options.flag("include_usage"), options.flag("continuous_usage_stats")
