"""The page at `/`: files that come with the package and need nothing from elsewhere."""

import hashlib
from pathlib import Path

from aiohttp import web

_FOLDER = Path(__file__).parents[1] / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asks each time, and is told 304
}


def routes() -> list[web.RouteDef]:
    """`/` and what it is made of, read into memory now."""
    files = {path.name: path for path in sorted(_FOLDER.iterdir())}
    return [web.get("/" if name == "index.html" else f"/page/{name}", _answer(path)) for name, path in files.items()]


def _answer(path: Path):
    body, kind = path.read_bytes(), _TYPES[path.suffix]
    etag = hashlib.sha256(body).hexdigest()[:16]

    async def answer(request: web.Request) -> web.Response:
        unchanged = any(known.value == etag for known in request.if_none_match or ())
        response = web.Response(status=304) if unchanged else web.Response(body=body, content_type=kind, charset="utf-8")
        response.headers.update(HEADERS)
        response.etag = etag
        return response

    return answer
