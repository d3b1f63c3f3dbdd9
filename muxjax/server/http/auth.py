"""Authentication middleware: API keys, a key of its own for administration, and what a second port shows."""

import enum
import hmac
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from muxjax.errors import RequestError
from muxjax.server.admission.lines import Lines
from muxjax.server.admission.tenants import ANYONE, Tenant, digest, unnamed
from muxjax.server.config import HttpOptions

OPEN_ROUTES = frozenset({"/", "/health", "/ping", "/ready", "/version", "/metrics"})
"""Routes that need no key: what balancers, monitors and a browser's first look ask for. None of them tells what clients send."""
ADMIN_PREFIX = "/admin"


class Sender(NamedTuple):
    """Whose request it is.

    Args:
      client: name of the line that its requests wait in, as of `Request`.
    """

    tenant: Tenant
    client: str


_SENDER = web.RequestKey("sender", Sender)


class Surface(enum.Enum):
    """Which routes a port has."""

    ALL = enum.auto()
    PUBLIC = enum.auto()
    ADMIN = enum.auto()

    def shows(self, route: str) -> bool:
        """The public port has all but metrics and administration; the other has these and what is open."""
        private = route == "/metrics" or is_admin(route)
        if self is Surface.ADMIN:
            return private or is_open(route) or route.startswith("/server_info")
        return self is Surface.ALL or not private


class Keys:
    """Keys that open a server, as digests.

    Args:
      tenants: owner of each key, by its digest; none at all opens the server to everybody.
      admin: digests of keys for administration, which is off without one.
    """

    def __init__(self, tenants: Mapping[str, Tenant], admin: Sequence[str]):
        self._tenants, self._admin = tenants, admin

    @classmethod
    def of(cls, http: HttpOptions) -> "Keys":
        owners = {key: tenant for tenant in http.tenants for key in tenant.api_keys}
        return cls({**{key: unnamed(key) for key in http.api_keys}, **owners}, http.admin_keys)

    def tenant(self, authorization: str | None) -> Tenant:
        """Whose key the header holds.

        Raises:
          RequestError: 401, nobody's.
        """
        return self.owner(authorization)[0]

    def owner(self, authorization: str | None) -> tuple[Tenant, str | None]:
        """Whose key the header holds, and its digest; None where the server asks for none.

        Raises:
          RequestError: 401, nobody's.
        """
        if not self._tenants:
            return ANYONE, None
        known = _match(authorization, tuple(self._tenants))
        if known is None:
            raise _unauthorized("API key")
        return self._tenants[known], known

    def check_admin(self, authorization: str | None) -> None:
        """Raises RequestError: 401 for another key; 404 where there is no administration."""
        if not self._admin:
            raise RequestError("Administration is off: the server has no admin key.", code="unknown_url", status=404)
        if _match(authorization, self._admin) is None:
            raise _unauthorized("admin key")


def guard(keys: Keys, lines: Lines, surface: Surface = Surface.ALL) -> Middleware:
    """Lets a request pass to an open route, or with a key; one that no route matches needs a key too."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else ""
        if route and not surface.shows(route):
            raise web.HTTPNotFound
        authorization = _authorization(request)
        if is_admin(route):
            keys.check_admin(authorization)
        elif request.method != "OPTIONS" and not is_open(route):
            tenant, key = keys.owner(authorization)
            request[_SENDER] = Sender(tenant, lines.of(tenant, key, request.remote))
        return await handler(request)

    return guarded


def _authorization(request: web.Request) -> str | None:
    """The header of that name, or what Anthropic's clients send in its place."""
    key = request.headers.get("X-Api-Key")
    return request.headers.get("Authorization") or (f"Bearer {key}" if key else None)


def sender_of(request: web.Request) -> Sender:
    """Whose request it is, as its guard has found."""
    return request[_SENDER]


def is_open(route: str) -> bool:
    return route in OPEN_ROUTES or route.startswith("/page/")


def is_admin(route: str) -> bool:
    return route == ADMIN_PREFIX or route.startswith(ADMIN_PREFIX + "/")


def _match(authorization: str | None, digests: Sequence[str]) -> str | None:
    """The digest of the header's bearer key, if it is among them; it takes the same time whichever it is."""
    scheme, _, key = (authorization or "").partition(" ")
    presented, match = digest(key.strip()), None
    for known in digests:
        if hmac.compare_digest(known, presented):
            match = known
    return match if scheme.lower() == "bearer" else None


def _unauthorized(what: str) -> RequestError:
    return RequestError(
        f"Incorrect or missing {what}: send one in the header `Authorization: Bearer KEY`.", code="invalid_api_key", status=401
    )
