"""Who comes in: keys, tenants, administration and its port, origins."""

import contextlib
import hmac
import http.client
import socket
import urllib.error
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.errors import ConfigError, RequestError
from muxjax.server.admission.tenants import Tenant, digest, unnamed
from muxjax.server.background import in_background
from muxjax.server.config import HttpOptions, load_options
from muxjax.server.http import auth
from muxjax.server.http.auth import Keys, Surface, is_admin
from muxjax.server.service import Service
from tests.fakes import FakeEngine

LOCKED = {"api_keys": (digest("open"),), "admin_keys": (digest("root"),)}
BODY = b'{"model": "a", "prompt": "the", "max_tokens": 2}'


@pytest.fixture
def locked(catalog):
    """Starts a server with those options; yields its address."""

    @contextlib.contextmanager
    def started(**options):
        service = Service(FakeEngine(["org/a", "plain"]), catalog)
        with in_background(service, HttpOptions(port=0, **options)) as url:
            yield url.removesuffix("/v1")

    return started


def ask(url: str, key: str | None = None, *, method: str = "GET", body: bytes | None = None, **headers: str):
    """Status, headers and body, whatever they are."""
    named = {name.replace("_", "-"): value for name, value in headers.items()} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named, method=method)) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_without_keys_everybody_comes_in_and_nobody_administers(locked):
    with locked() as url:
        assert ask(f"{url}/v1/models")[0] == 200
        assert ask(f"{url}/admin/models", "anything")[0] == 404


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/a", "/tokenize", "/nowhere", "//v1/models", "/v1/../v1/models"])
def test_all_that_is_not_open_needs_a_key(locked, path):
    with locked(**LOCKED) as url:
        for key in (None, "wrong", "ope", "open ed", "root"):
            status, headers, body = ask(url + path, key)
            assert status == 401
            assert headers["WWW-Authenticate"] == "Bearer"
            assert b"invalid_api_key" in body
        assert ask(url + path, "open")[0] != 401


def test_a_request_without_a_key_reaches_no_engine(catalog):
    engine = FakeEngine(["org/a", "plain"])
    with in_background(Service(engine, catalog), HttpOptions(port=0, **LOCKED)) as url:
        assert ask(f"{url}/completions", method="POST", body=BODY)[0] == 401
        assert engine.submitted == []
        assert ask(f"{url}/completions", "open", method="POST", body=BODY)[0] == 200
        assert len(engine.submitted) == 1


def complete_from(url: str, address: str) -> int:
    """Status of a completion asked for from that address of this machine."""
    connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/v1"), source_address=(address, 0))
    with contextlib.closing(connection):
        connection.request("POST", "/v1/completions", BODY)
        return connection.getresponse().status


@pytest.mark.parametrize(("fairness", "lines"), [("client", 8), ("address", 8), ("key", 1), ("none", 1)])
def test_clients_of_an_open_server_wait_in_lines_of_their_own_unless_it_says_otherwise(catalog, fairness, lines):
    engine = FakeEngine(["org/a", "plain"])
    with in_background(Service(engine, catalog), HttpOptions(port=0, fairness=fairness)) as url:
        for last in range(8):
            assert complete_from(url, f"127.0.0.{last + 1}") == complete_from(url, f"127.0.0.{last + 1}") == 200
    assert lines - 3 <= len({request.line for request in engine.submitted}) <= lines, "some may meet in one"
    assert {request.tenant for request in engine.submitted} == {""}, "what is cached for one is found by all"


def test_clients_with_keys_wait_in_lines_of_their_own(catalog):
    engine = FakeEngine(["org/a", "plain"])
    keys = [f"key {number}" for number in range(8)]
    with in_background(Service(engine, catalog), HttpOptions(port=0, api_keys=tuple(map(digest, keys)))) as url:
        assert {ask(f"{url}/completions", key, method="POST", body=BODY)[0] for key in keys} == {200}
    assert 5 <= len({request.line for request in engine.submitted}) <= 8


@pytest.mark.parametrize("path", ["/health", "/ping", "/version", "/metrics"])
def test_what_monitors_ask_for_is_open(locked, path):
    with locked(**LOCKED) as url:
        assert ask(url + path)[0] == 200


@pytest.mark.parametrize("header", ["Basic open", "open", "Bearer", "Bearer open open", "\udcff", ""])
def test_only_a_bearer_key_counts(header):
    with pytest.raises(RequestError) as refused:
        Keys.of(HttpOptions(**LOCKED)).tenant(header)
    assert refused.value.status == 401


@pytest.mark.parametrize("header", ["Bearer open", "bearer open", "Bearer  open "])
def test_the_scheme_is_spelled_as_one_likes(header):
    assert Keys.of(HttpOptions(**LOCKED)).tenant(header) == unnamed(digest("open"))


@given(st.text())
def test_no_other_text_is_the_key(text):
    keys = Keys.of(HttpOptions(**LOCKED))
    if text.strip() != "open":
        with pytest.raises(RequestError):
            keys.tenant(f"Bearer {text}")


def test_every_key_is_compared_in_constant_time(monkeypatch):
    """Whichever key it is, and if it is none, each known digest is compared once, by `hmac.compare_digest`."""
    compared = []
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda a, b: compared.append(a) or a == b)
    digests = tuple(digest(key) for key in ("a", "b", "c"))
    keys = Keys.of(HttpOptions(api_keys=digests))
    for key in ("a", "c", "none"):
        compared.clear()
        with contextlib.suppress(RequestError):
            keys.tenant(f"Bearer {key}")
        assert tuple(compared) == digests
    assert auth.hmac is hmac


def test_each_key_is_its_tenants():
    alice, bob = (Tenant(name=name, api_keys=(digest(name), digest(name + "2"))) for name in ("alice", "bob"))
    keys = Keys.of(HttpOptions(tenants=(alice, bob)))
    assert [keys.tenant(f"Bearer {key}").name for key in ("alice", "bob", "bob2")] == ["alice", "bob", "bob"]


def test_keys_without_tenants_are_clients_of_their_own():
    keys = Keys.of(HttpOptions(api_keys=(digest("one"), digest("two"))))
    names = [keys.tenant(f"Bearer {key}").name for key in ("one", "two", "one")]
    assert names[0] == names[2] != names[1]
    assert all(key not in names[0] for key in ("one", digest("one")))


def test_administration_needs_its_own_key():
    keys = Keys.of(HttpOptions(**LOCKED))
    keys.check_admin("Bearer root")
    for key in ("open", "wrong", ""):
        with pytest.raises(RequestError) as refused:
            keys.check_admin(f"Bearer {key}")
        assert refused.value.status == 401


def test_an_api_key_may_not_be_the_admin_key():
    with pytest.raises(ConfigError, match="nobody else has"):
        HttpOptions(api_keys=(digest("same"),), admin_keys=(digest("same"),))


@pytest.mark.parametrize("route, admin", [("/admin", True), ("/admin/models", True), ("/administer", False), ("/v1/admin", False)])
def test_administration_is_what_lies_under_its_prefix(route, admin):
    assert is_admin(route) is admin


def test_a_second_port_has_metrics_and_administration_alone(locked):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with locked(admin_port=port, **LOCKED) as url:
        private = f"http://127.0.0.1:{port}"
        assert (ask(f"{url}/metrics", "open")[0], ask(f"{private}/metrics")[0]) == (404, 200)
        assert (ask(f"{url}/v1/models", "open")[0], ask(f"{private}/v1/models", "open")[0]) == (200, 404)
        assert (ask(f"{url}/health")[0], ask(f"{private}/health")[0]) == (200, 200)


@pytest.mark.parametrize(
    "surface, shown",
    [
        (Surface.ALL, {"/admin/models", "/metrics", "/v1/models", "/health"}),
        (Surface.PUBLIC, {"/v1/models", "/health"}),
        (Surface.ADMIN, {"/admin/models", "/metrics", "/health"}),
    ],
)
def test_what_each_surface_shows(surface, shown):
    assert {route for route in ("/admin/models", "/metrics", "/v1/models", "/health") if surface.shows(route)} == shown


PAGE = "https://page.example"


def test_no_page_of_another_origin_may_read_answers(locked):
    with locked() as url:
        status, headers, _ = ask(f"{url}/v1/models", Origin=PAGE)
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, None)
        assert ask(f"{url}/v1/models", method="OPTIONS", Origin=PAGE)[0] == 405


@pytest.mark.parametrize("allowed, origin, answered", [((PAGE,), PAGE, PAGE), (("*",), PAGE, PAGE), ((PAGE,), PAGE + ".evil", None)])
def test_allowed_origins_may(locked, allowed, origin, answered):
    with locked(allowed_origins=allowed, **LOCKED) as url:
        for status, key in ((200, "open"), (401, None)):
            found, headers, _ = ask(f"{url}/v1/models", key, Origin=origin)
            assert (found, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (status, answered, "Origin")
        status, headers, _ = ask(f"{url}/v1/models", method="OPTIONS", Origin=origin, Access_Control_Request_Headers="authorization, x-a")
        assert (status, headers["Access-Control-Allow-Headers"]) == ((204, "authorization, x-a") if answered else (405, None))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/v1/models/org/a", "/admin/models"])
def test_a_browser_may_ask_first_without_a_key_what_it_may(locked, path):
    wish = {"Origin": PAGE, "Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    with locked(allowed_origins=(PAGE,), **LOCKED) as url:
        status, headers, body = ask(url + path, method="OPTIONS", **wish)
    assert (status, body, headers["Access-Control-Allow-Origin"]) == (204, b"", PAGE)
    assert "POST" in headers["Access-Control-Allow-Methods"]
    assert headers["Access-Control-Allow-Headers"] == "authorization,content-type"


def test_a_key_of_a_flag_is_kept_as_its_digest_only():
    http = load_options(["a=/x"], {"api_key": ["open", "other"], "admin_key": "chief"})[1]
    assert http.api_keys == (digest("open"), digest("other"))
    assert http.admin_keys == (digest("chief"),)
    assert "open" not in repr(http) and "chief" not in repr(http)


TENANTS = """
api_keys: [{digest}]
models:
  - {{name: a, path: /x}}
tenants:
  - {{name: alice, api_keys: [{alice}], requests_per_minute: 30, weight: 2, metrics: true}}
  - {{name: bob, api_keys: [{bob}], tokens_per_minute: 1e4, tokens_per_day: 1000000}}
"""


def test_tenants_stand_in_the_file(tmp_path):
    path = tmp_path / "serve.yaml"
    path.write_text(TENANTS.format(digest=digest("open"), alice=digest("alice"), bob=digest("bob")))
    http = load_options([str(path)], {})[1]
    assert http.api_keys == (digest("open"),)
    assert http.tenants == (
        Tenant(name="alice", api_keys=(digest("alice"),), requests_per_minute=30, weight=2, metrics=True),
        Tenant(name="bob", api_keys=(digest("bob"),), tokens_per_minute=10_000, tokens_per_day=1_000_000),
    )


@pytest.mark.parametrize(
    "replaced, by, told",
    [
        ("api_keys: [{digest}]", "api_keys: [secret]", r"serve.yaml:2: api_keys must be SHA-256"),
        ("api_keys: [{digest}]", "api_key: secret", "did you mean api_keys"),
        ("weight: 2", "weight: 0", "serve.yaml:6: weight must be over 0"),
        ("metrics: true", "metrics: 3", "serve.yaml:6: metrics must be true or false"),
        ("weight: 2", "wieght: 2", "did you mean weight"),
        ("name: bob", "name: alice", "named, once each"),
        ("[{bob}]", "[{alice}]", "nobody else has"),
    ],
)
def test_what_is_wrong_with_a_tenant_is_told_without_keys(tmp_path, replaced, by, told):
    path = tmp_path / "serve.yaml"
    path.write_text(TENANTS.replace(replaced, by).format(digest=digest("open"), alice=digest("alice"), bob=digest("bob")))
    with pytest.raises(ConfigError, match=told) as refused:
        load_options([str(path)], {})
    assert "secret" not in str(refused.value)
