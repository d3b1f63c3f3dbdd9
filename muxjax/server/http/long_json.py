"""JSON of answers that may be long: made in slices, between which other threads run, for one call of the encoder lets none in."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiohttp import web

from muxjax.server.strict_json import encode

_SLICE = 64


def json_body(answer: Mapping[str, Any]) -> bytes:
    """The bytes of `strict_json.encode`."""
    return "".join(_pieces(answer)).encode()


def json_answer(body: bytes) -> web.Response:
    """A response with a body that is JSON."""
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def _pieces(value: Any, name: str = "") -> Iterator[str]:
    """Objects member by member, long lists slice by slice; choices, data and a few objects one by one, each of which may be long."""
    if isinstance(value, Mapping):
        yield from _joined("{", (_member(str(key), member) for key, member in value.items()), "}")
    elif isinstance(value, list) and (name in ("choices", "data") or _are_few_objects(value)):
        yield from _joined("[", map(_pieces, value), "]")
    elif isinstance(value, list) and len(value) > _SLICE:
        slices = (value[at : at + _SLICE] for at in range(0, len(value), _SLICE))
        yield from _joined("[", ([encode(entries)[1:-1]] for entries in slices), "]")
    else:
        yield encode(value)


def _are_few_objects(values: list[Any]) -> bool:
    return 0 < len(values) <= _SLICE and isinstance(values[0], Mapping)


def _member(name: str, value: Any) -> Iterator[str]:
    yield encode(name) + ":"
    yield from _pieces(value, name)


def _joined(begin: str, parts: Iterable[Iterable[str]], end: str) -> Iterator[str]:
    yield begin
    for number, part in enumerate(parts):
        if number:
            yield ","
        yield from part
    yield end
