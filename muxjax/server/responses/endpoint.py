"""`/v1/responses` as an endpoint that generates."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from muxjax.server.answers.reply import Asked, Endpoint
from muxjax.server.catalog import Catalog
from muxjax.server.generation import Stamp
from muxjax.server.responses.reply import Json, ResponseReply
from muxjax.server.responses.request import ResponseRequest, parse_response, read_request
from muxjax.server.responses.store import ResponseStore


def responses(store: ResponseStore) -> Endpoint:
    """The endpoint, whose answers are kept there."""
    return Endpoint("resp_", partial(_read, store))


def _read(store: ResponseStore, body: Mapping[str, Any], catalog: Catalog, stamp: Stamp) -> Asked:
    request = read_request(body, store, stamp)
    generation = parse_response(request, catalog, stamp)
    return Asked(generation, ResponseReply(generation, request, partial(_keep, store, request)))


def _keep(store: ResponseStore, request: ResponseRequest, response: Json, answer: list[Json]) -> None:
    if request.store:
        store.put(request.kept(response, answer))
