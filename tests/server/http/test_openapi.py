"""Requests made from OpenAI's description of its interface, right and wrong ones: their answers fit it, and none is a fault of ours.

MUXJAX_OPENAPI_CASES says how many of them, and then chance chooses; by default they are few and always the same. $MUXJAX_OPENAPI_COUNTS
names a file that gets a line for each: its operation and status.
"""

import contextlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis.checks import FailureGroup, not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from muxjax.server.answers.dialect import dialect_of
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions
from muxjax.server.service import Service
from muxjax.server.text.template import ChatTemplate
from muxjax.server.text.tokenizer import HfTokenizer
from tests.fakes import FakeEngine
from tests.server.kit import EOS, TEMPLATE, served

CASES = int(os.environ.get("MUXJAX_OPENAPI_CASES", "0"))
FEW = 25
COUNTS = os.environ.get("MUXJAX_OPENAPI_COUNTS")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = yaml.safe_load((Path(__file__).parent / "openapi.yaml").read_text())
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@pytest.fixture(scope="module")
def url(tokenizer: HfTokenizer) -> Iterator[str]:
    """Of a model that calls tools and reasons, and of one without a chat template."""
    template = ChatTemplate("{{ tools or '' }}" + TEMPLATE, {"bos_token": "<s>"})
    dialect = dialect_of("", tokenizer.marks, ends=[EOS], tool_call_parser="hermes", reasoning_parser="qwen3")
    talker = served(tokenizer, "org/a", aliases=("a",), template=template, dialect=dialect, max_model_len=2000)
    catalog = Catalog([talker, served(tokenizer, "plain", template=None)])
    with in_background(Service(FakeEngine(["org/a", "plain"], turn_s=0.0002), catalog), HttpOptions(port=0)) as address:
        yield address


@SCHEMA.parametrize()
@settings(
    max_examples=CASES or FEW,
    derandomize=not CASES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described_and_none_is_a_server_error(case, url):
    response = case.call(base_url=url)
    if COUNTS:
        with Path(COUNTS).open("a") as file:
            file.write(json.dumps([case.operation.label, response.status_code]) + "\n")
    case.validate_response(response, checks=CHECKS)


@contextlib.contextmanager
def answering(body: bytes, *, status: int = 200, kind: str = "application/json") -> Iterator[str]:
    """An endpoint that says the same to everybody."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


NAMED = {"type": "model", "display_name": "a", "created_at": "1970-01-01T00:00:01Z"}
RIGHT = {"object": "list", "data": [{"id": "a", "object": "model", "created": 1, "owned_by": "muxjax", **NAMED}]}
WRONG = {
    "a missing field": {"body": {"object": "list"}},
    "another type": {"body": RIGHT | {"data": [RIGHT["data"][0] | {"created": "1"}]}},
    "another model": {"body": RIGHT | {"data": [RIGHT["data"][0] | {"id": "b"}]}},
    "another content type": {"body": RIGHT, "kind": "text/plain"},
    "a server error": {"body": {"error": {"type": "x", "message": "x", "param": None, "code": None}}, "status": 500},
    "an error of another shape": {"body": {"error": "no"}, "status": 404},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_noticed(wrong):
    case = SCHEMA["/models"]["GET"].Case()
    with answering(json.dumps(RIGHT).encode()) as address:
        case.validate_response(case.call(base_url=address), checks=CHECKS)
    options = {name: value for name, value in wrong.items() if name != "body"}
    with answering(json.dumps(wrong["body"]).encode(), **options) as address:
        response = case.call(base_url=address)
        with pytest.raises(FailureGroup):
            case.validate_response(response, checks=CHECKS)
