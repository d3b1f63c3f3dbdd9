"""What over HTTP may be loaded from where, and who is told of templates."""

import json

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.errors import ConfigError, RequestError
from muxjax.server.admission.tenants import digest
from muxjax.server.background import in_background
from muxjax.server.catalog import Catalog
from muxjax.server.config import HttpOptions, load_options
from muxjax.server.http.routes.admin import model_options
from muxjax.server.model_root import confined
from muxjax.server.service import Service
from muxjax.server.text.tokenizer import ByteTokenizer
from tests.fakes import FakeEngine, FakeLifecycle
from tests.server.http.test_auth import ask
from tests.server.kit import served


@pytest.fixture
def tree(tmp_path):
    """A root with a model and a template, and a secret beside it, to which links lead."""
    root, secret = tmp_path / "root", tmp_path / "secret.jinja"
    model = root / "model"
    model.mkdir(parents=True)
    secret.write_text("secret")
    for name in ("own.jinja", "own.txt"):
        model.joinpath(name).write_text("own")
    root.joinpath("shared.jinja").write_text("shared")
    model.joinpath("link.jinja").symlink_to(secret)
    model.joinpath("text.jinja").symlink_to(model / "own.txt")
    root.joinpath("out").symlink_to(tmp_path)
    return tmp_path


def load(tree, root, path="root/model", **changes):
    body = {"name": "m", "path": str(tree / path) if not path.startswith("=") else path[1:], **changes}
    return confined(model_options(body), root)


OUTSIDE = ["/etc/passwd", "link.jinja", "../../secret.jinja", "no-such-file-elsewhere/../../../x.jinja"]


@pytest.mark.parametrize("template", [*OUTSIDE, "own.txt", "text.jinja", "a\0.jinja", "\ud800.jinja"])
@pytest.mark.parametrize("rooted", [True, False])
def test_a_template_is_a_jinja_file_of_the_model(tree, template, rooted):
    chosen = f"model/{template}" if rooted and not template.startswith("/") else template
    with pytest.raises(RequestError) as refused:
        load(tree, tree / "root" if rooted else None, chat_template=chosen)
    assert (refused.value.status, refused.value.param) == (400, "chat_template")


def test_a_template_of_the_model_or_under_the_root_is_taken(tree):
    assert load(tree, None, chat_template="own.jinja").chat_template == tree / "root/model/own.jinja"
    assert load(tree, tree / "root", chat_template="shared.jinja").chat_template == tree / "root/shared.jinja"
    with pytest.raises(RequestError, match="the model's folder"):
        load(tree, None, chat_template=str(tree / "root/shared.jinja"))


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "additional_chat_templates/tool_use.jinja"])
def test_with_a_root_no_file_of_a_model_is_a_link_out_of_it(tree, name):
    link = tree / "root/linked" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tree / "root/shared.jinja")
    assert load(tree, tree / "root", "=linked").path == tree / "root/linked"
    link.unlink()
    link.symlink_to(tree / "secret.jinja")
    with pytest.raises(RequestError, match="all files of the model") as refused:
        load(tree, tree / "root", "=linked")
    assert (refused.value.status, refused.value.param) == (400, "path")


@pytest.mark.parametrize("path", ["=/etc", "=..", "=../secret.jinja", "=out", "=out/root/../..", "=\0", "="])
def test_with_a_root_a_model_lies_under_it(tree, path):
    if path == "=":
        assert load(tree, tree / "root", "=model").path == tree / "root/model"  # as written relative to it
        return
    with pytest.raises(RequestError) as refused:
        load(tree, tree / "root", path)
    assert (refused.value.status, refused.value.param) == (400, "path")


def test_without_one_a_model_is_where_the_administrator_says(tree):
    assert load(tree, None).path == tree / "root/model"


def test_what_is_refused_does_not_tell_whether_it_is_there(tree):
    told = []
    for path in ("secret.jinja", "nothing.jinja"):
        with pytest.raises(RequestError) as refused:
            load(tree, tree / "root", chat_template=str(tree / path))
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_the_root_is_an_option(tmp_path):
    assert load_options([f"a={tmp_path}"], {"model_root": str(tmp_path)})[1].model_root == tmp_path


def test_a_root_that_is_not_there_is_found_before_anything_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="--model-root must be a folder that is there"):
        load_options([f"a={tmp_path}"], {"model_root": str(tmp_path / "typo")})


def test_over_http_no_file_of_the_machine_is_a_template(tree):
    unit = UnitOptions(models=(ModelOptions(name="a", path=tree),))
    service = Service(FakeEngine(["a"]), Catalog([served(ByteTokenizer(300), "a")]), unit, FakeLifecycle(["a"]))
    with in_background(service, HttpOptions(port=0, admin_keys=(digest("root"),), model_root=tree / "root")) as url:
        body = {"name": "b", "path": str(tree / "root/model"), "load_format": "dummy", "chat_template": "/etc/passwd"}
        status, _, answer = ask(url.removesuffix("/v1") + "/admin/models", "root", method="POST", body=json.dumps(body).encode())
    assert status == 400 and json.loads(answer)["error"]["param"] == "chat_template"


@pytest.mark.parametrize("set_by_operator", [True, False])
def test_the_operators_own_template_is_told_to_no_client(tree, set_by_operator):
    template = tree / "secret.jinja" if set_by_operator else None
    unit = UnitOptions(models=(ModelOptions(name="a", path=tree, chat_template=template),))
    model = served(ByteTokenizer(300), "a", tokenizer_config={"chat_template": "replaced", "model_max_length": 7})
    with in_background(Service(FakeEngine(["a"]), Catalog([model]), unit), HttpOptions(port=0)) as url:
        status, _, answer = ask(url.removesuffix("/v1") + "/tokenizer_info")
    info = json.loads(answer)
    assert status == 200 and info["model_max_length"] == 7
    assert ("chat_template" in info) is not set_by_operator
