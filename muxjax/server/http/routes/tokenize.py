"""`/tokenize`, `/detokenize` and `/tokenizer_info`: text to tokens and back, as the completions do it."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from muxjax.errors import RequestError
from muxjax.server.admission.lines import line_of
from muxjax.server.catalog import Catalog, ServedModel
from muxjax.server.http.auth import sender_of
from muxjax.server.http.body import SMALL_BYTES, json_response, read_object, size_of, take
from muxjax.server.http.long_json import json_answer, json_body
from muxjax.server.openai.fields import Fields, show, token_ids
from muxjax.server.openai.legacy_functions import modern
from muxjax.server.openai.lengths import require_short
from muxjax.server.openai.logprobs import spelled
from muxjax.server.openai.prompts import encode, read_chat
from muxjax.server.openai.tools import read_tools
from muxjax.server.service import Service


def routes(service: Service) -> list[web.RouteDef]:
    """Routes of the three; with several models each must be told which."""

    async def answered(request: web.Request, answer: Callable[[Mapping[str, Any], Catalog], dict[str, Any]]) -> web.Response:
        pool, line = service.pools.small if size_of(request) <= SMALL_BYTES else service.pools.large, line_of(*sender_of(request))
        return json_answer(await pool.run(line, lambda: json_body(answer(read_object(take(request)), service.catalog))))

    async def tokenize(request: web.Request) -> web.Response:
        return await answered(request, tokens_of)

    async def detokenize(request: web.Request) -> web.Response:
        return await answered(request, text_of)

    async def tokenizer_info(request: web.Request) -> web.Response:
        model = _asked_for(request, service.catalog)
        options = service.model_options(model.name)
        return json_response(info_of(model, own_template=options is not None and options.chat_template is not None))

    return [web.post("/tokenize", tokenize), web.post("/detokenize", detokenize), web.get("/tokenizer_info", tokenizer_info)]


def _asked_for(request: web.Request, catalog: Catalog) -> ServedModel:
    """Raises RequestError: there is no such model, or the query names none of several."""
    name = request.query.get("model")
    try:
        return catalog.find(name)
    except RequestError as error:
        if name is not None:
            raise
        raise RequestError(f"{error}: say {request.path}?model=NAME", param="model") from error


def tokens_of(body: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Tokens of a prompt, or of a chat's messages as a chat of the same body would have them.

    Raises:
      RequestError: there is no such model, or neither text nor messages.
    """
    fields = Fields(body)
    model = catalog.find(fields.text("model"))
    tokens = _tokens(fields, model)
    strings = [spelled(model.tokenizer, token) for token in tokens] if fields.flag("return_token_strs") else None
    return {"count": len(tokens), "max_model_len": model.max_model_len, "tokens": list(tokens), "token_strs": strings}


def text_of(body: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Text of tokens, special ones included.

    Raises:
      RequestError: there is no such model, or no list of its tokens.
    """
    fields = Fields(body)
    model = catalog.find(fields.text("model"))
    fields.required("tokens")
    return {"prompt": model.tokenizer.decode(token_ids(fields, "tokens", model.spec.vocab), special=True)}


def info_of(model: ServedModel, *, own_template: bool = False) -> dict[str, Any]:
    """The checkpoint's tokenizer_config.json, with the chat template in force if it is the checkpoint's.

    Args:
      own_template: the operator has set another one, which is no client's business, nor is the one that it replaces.
    """
    info = {"tokenizer_class": "PreTrainedTokenizerFast", **model.tokenizer_config}
    info.pop("chat_template", None) if own_template else None
    return info | ({"chat_template": model.template.source} if model.template and not own_template else {})


def _tokens(fields: Fields, model: ServedModel) -> tuple[int, ...]:
    if fields.get("messages") is not None:
        fields = Fields(modern(fields.raw))
        return read_chat(fields, model, read_tools(fields, model)).tokens
    prompt = fields.required("prompt")
    if not isinstance(prompt, str):
        raise fields.error("prompt", f"must be a string, got {show(prompt)}")
    require_short(model, len(prompt), "prompt")
    return encode(model, prompt, "prompt", special=fields.flag("add_special_tokens", True))
