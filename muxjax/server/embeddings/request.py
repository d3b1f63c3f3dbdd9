"""A body of /v1/embeddings to a `Generation` of one silent request an input."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from muxjax.errors import RequestError
from muxjax.server.catalog import Catalog, ServedModel
from muxjax.server.generation import Generation, Stamp
from muxjax.server.openai.fields import Fields, show
from muxjax.server.openai.prompts import Prompt, read_prompts
from muxjax.server.openai.schema import read_priority, read_salt, unknown_fields
from muxjax.types import Sampling

MOST_INPUTS = 2048
_FORMATS = ("float", "base64")


class EmbeddingForm(NamedTuple):
    """How a client wants its embeddings.

    Args:
      dimensions: their first ones, of all that the model has.
      base64: as bytes of little-endian float32 rather than as numbers.
    """

    dimensions: int
    base64: bool


class Embeddings(NamedTuple):
    """What a client asks for."""

    generation: Generation
    form: EmbeddingForm


def parse_embeddings(body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Embeddings:
    """What a body of /v1/embeddings asks for.

    Raises:
      RequestError: with OpenAI's status, code and the field's name.
    """
    fields = Fields(body)
    model = catalog.find(fields.text("model"))
    if model.pooling is None:
        problem = "makes no embeddings: it is started for that with `pooling: last` or `pooling: mean`"
        raise RequestError(f"The model `{model.name}` {problem}.", param="model", code="unsupported_value")
    form = _form(fields, model)
    prompts = read_prompts(fields, model, "input", most=MOST_INPUTS)
    for place, prompt in enumerate(prompts):
        if not prompt.tokens:
            raise fields.error("input", f"must have a token each, and number {place} has none", code="invalid_value")
    return Embeddings(_generation(fields, model, prompts, stamp), form)


def _form(fields: Fields, model: ServedModel) -> EmbeddingForm:
    kind = fields.text("encoding_format") or _FORMATS[0]
    if kind not in _FORMATS:
        raise fields.error("encoding_format", f"must be {' or '.join(_FORMATS)}, got {show(kind)}", code="invalid_value")
    width = model.spec.width
    return EmbeddingForm(fields.integer("dimensions", width, 1, width), kind == "base64")


def _generation(fields: Fields, model: ServedModel, prompts: list[Prompt], stamp: Stamp) -> Generation:
    salt, priority = read_salt(fields), read_priority(fields)
    sampling = Sampling(temperature=0.0, max_tokens=1, pooling=model.pooling)
    requests = tuple(
        stamp.request(index, model, prompt.tokens, sampling, priority=priority, cache_salt=salt) for index, prompt in enumerate(prompts)
    )
    return Generation.silent_one(stamp, model, fields.text("model") or model.name, requests, unknown_fields(fields))
