"""What the server's tests share: a small model, and an endpoint with its fake engine."""

import json
from pathlib import Path

import openai

from muxjax.model_spec import ModelSpec
from muxjax.server.catalog import ServedModel
from muxjax.server.generation import Stamp
from muxjax.server.sampling_defaults import SamplingDefaults
from muxjax.server.service import Service
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.tokenizer import Tokenizer
from tests.fakes import FakeEngine

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
BOS, EOS, VOCAB = 0, 1, 300
STAMP = Stamp(id="id", created=1, arrival_s=0.0, seed=7)


def spec(vocab: int = VOCAB) -> ModelSpec:
    return ModelSpec(vocab=vocab, width=8, layers=1, heads=1, kv_heads=1, head_dim=8, ffn=8, max_len=100, windows=(None,), eos_ids=(EOS,))


def served(tokenizer: Tokenizer, name: str, **changes) -> ServedModel:
    fields = {
        "aliases": (),
        "template": ChatTemplate(TEMPLATE, {"bos_token": "<s>"}),
        "defaults": SamplingDefaults(),
        "spec": spec(),
        "max_model_len": 100,
        "created": 1,
    }
    return ServedModel(name=name, tokenizer=tokenizer, **{**fields, **changes})


class Server:
    """A running endpoint with its fake engine and a client."""

    def __init__(self, engine: FakeEngine, service: Service, url: str):
        self.engine, self.service, self.url = engine, service, url
        self.client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
