"""A model's tokenizer: byte-level BPE learned from its own tales, and the template that makes a prompt of chat messages."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from muxjax.demo.errands import Errand, errands
from muxjax.demo.items import conversation
from muxjax.demo.tales import Split, tales
from muxjax.demo.worlds import World
from muxjax.server.text.template import ChatTemplate

BOS, EOS, USER, BOT = "<s>", "</s>", "<|user|>", "<|bot|>"
SPECIALS = (BOS, EOS, USER, BOT)
OF_TOOLS = ("<|system|>", "<|tools|>", "<|tool|>", "<tool_call>", "</tool_call>")
"""Specials of a model that calls tools; others read them letter by letter."""
_CONVERSATIONS = 4000
"""That a vocabulary is learned from."""
CHAT_TEMPLATE = """{{ bos_token }}
{%- if messages[0].role == 'system' %}
    {{- '<|system|>' + messages[0].content }}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- if tools %}
    {{- '<|tools|>' }}
    {%- for tool in tools %}
        {%- set parameters = tool.function.parameters or {} %}
        {{- ('' if loop.first else ' ') + tool.function.name + '(' + ((parameters.properties or {}) | list | join(', ')) + ')' }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|user|>' + message.content }}
    {%- elif message.role == 'assistant' %}
        {{- '<|bot|>' + (message.content or '') }}
        {%- for call in message.tool_calls or [] %}
            {{- ('' if loop.first else '\n') + '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}\n</tool_call>' }}
        {%- endfor %}
        {{- eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '<|tool|>' + message.content }}
    {%- else %}
        {{- raise_exception('the demo models know only the roles system (first), user, assistant and tool') }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|bot|>' }}
{%- endif %}
"""


def specials(world: World) -> tuple[str, ...]:
    """Special tokens of a world's model, the first ones of its vocabulary."""
    return (*SPECIALS, *OF_TOOLS) if world.calls_tools else SPECIALS


def train_tokenizer(world: World, vocab: int, seed: int) -> Tokenizer:
    """Byte-level BPE with `vocab` entries, the specials first; the digits of a number stay apart."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(specials(world)),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    training = islice(tales(world, Random(seed), Split.TRAIN), _CONVERSATIONS)
    messages = (message for tale in training for message in conversation(tale.text, tale.questions))
    texts = [message["content"] for message in messages]
    if world.calls_tools:
        texts += _texts(islice(errands(world, Random(seed), Split.TRAIN), _CONVERSATIONS))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _texts(told: Iterable[Errand]) -> Iterator[str]:
    """What errands say, and their calls as the template writes them."""
    for errand in told:
        for message in errand.messages:
            yield message["content"]
            for call in message.get("tool_calls", ()):
                yield "\n" + json.dumps(call["function"]) + "\n"


def chat_template() -> ChatTemplate:
    """The shipped template in the renderer that serves it."""
    return ChatTemplate(CHAT_TEMPLATE, {"bos_token": BOS, "eos_token": EOS})


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_len: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json, the chat template in the latter."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "model_max_length": max_len,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
