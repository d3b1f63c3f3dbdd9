"""The page at `/`: as files, and in Chromium."""

import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.server.admission.tenants import digest
from muxjax.server.background import in_background
from muxjax.server.config import HttpOptions
from muxjax.server.http.routes import page
from muxjax.server.service import Service
from tests.fakes import FakeEngine, FakeLifecycle
from tests.server.http.test_app import ask

STATIC = Path(page.__file__).parents[1] / "static"
WAIT_S = 60
needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs Debian's chromium and chromium-driver"
)


def test_the_page_and_all_it_names_are_served(server):
    status, headers, body = ask(server, "GET", "/")
    named = re.findall(r'(?:src|href)="(page/[^"]+)"', body.decode())

    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert {"page/main.js", "page/page.css", "page/icon.svg"} <= set(named)
    assert {ask(server, "GET", f"/{path}")[0] for path in named} == {200}


def test_every_module_that_a_script_imports_is_served_as_javascript(server):
    imports = {name for path in STATIC.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', path.read_text())}

    assert imports
    for name in imports:
        status, headers, _ = ask(server, "GET", f"/page/{name}")
        assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8"), name


@pytest.mark.parametrize("path", ["/", "/page/main.js"])
def test_nothing_but_our_own_files_may_run_and_nobody_may_frame_them(server, path):
    headers = ask(server, "GET", path)[1]
    policy = dict(directive.split(" ", 1) for directive in headers["Content-Security-Policy"].split("; "))

    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert {policy[name] for name in ("frame-ancestors", "base-uri", "form-action")} == {"'none'"}
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_what_is_unchanged_is_not_sent_again(server):
    etag = ask(server, "GET", "/page/main.js")[1]["ETag"]
    status, _, body = ask(server, "GET", "/page/main.js", headers={"If-None-Match": etag})

    assert (status, body) == (304, b"")
    assert ask(server, "GET", "/page/main.js", headers={"If-None-Match": '"another"'})[0] == 200


@pytest.mark.parametrize("path", ["/page/", "/page/none.js", "/page/../app.py", "/page/%2e%2e/app.py", "/index.html"])
def test_nothing_else_is_served(server, path):
    assert ask(server, "GET", path)[0] == 404


def test_the_files_hold_no_inline_script_or_style_and_no_address_elsewhere():
    html = (STATIC / "index.html").read_text()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html) == []
    everything = "".join(path.read_text() for path in STATIC.iterdir()).replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?://|//\w+\.\w+/|@import|url\(", everything) == []


def test_every_control_has_a_label_and_every_id_stands_once():
    html = (STATIC / "index.html").read_text()
    ids, labelled = re.findall(r'\sid="([^"]+)"', html), set(re.findall(r'<label[^>]*\sfor="([^"]+)"', html))
    controls = re.findall(r'<(?:input|select|textarea)[^>]*\sid="([^"]+)"', html)
    wrapped = {name for label in re.findall(r"<label.*?</label>", html, re.DOTALL) for name in re.findall(r'\sid="([^"]+)"', label)}

    assert len(ids) == len(set(ids))
    assert controls and set(controls) <= labelled | wrapped


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_what_is_behind_them(scheme):
    light, dark = (STATIC / "page.css").read_text().split("@media (prefers-color-scheme: dark)")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark.split("* {")[0]))
    models = [name for name in colours if re.fullmatch(r"m\d", name)]

    assert len(models) == 8
    assert {name: _contrast(colours[name], colours["card"]) for name in ("text", "soft", "good", "bad") if
            _contrast(colours[name], colours["card"]) < 4.5} == {}  # fmt: skip
    assert {name: _contrast(colours[name], colours["card"]) for name in models if _contrast(colours[name], colours["card"]) < 3} == {}
    assert _contrast(colours["accent"], colours["on-accent"]) >= 4.5
    assert _contrast("#777777", "#808080") < 1.2


def _contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""
    lights = sorted(map(_luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, server):
    """The page of a server whose models repeat their prompts."""
    _forget_logs(browser)
    browser.get(server.url.removesuffix("/v1") + "/")
    _until(lambda: browser.find_element("id", "state").text == "ready")
    return browser


@needs_chromium
def test_the_page_shows_the_models_and_what_they_do(opened, server):
    _until(lambda: len(opened.find_elements("css selector", ".model")) == 2)
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hello", "max_tokens": 50})
    _until(lambda: "51 steps" in opened.find_element("id", "jobs-text").text or "50 steps" in opened.find_element("id", "jobs-text").text)
    card = opened.find_element("css selector", "[data-model='org/a']")

    assert "ready" in card.text
    _until(lambda: " ms" in card.text)
    assert "of 1,000 head blocks" in opened.find_element("id", "cache-text").text
    assert _painted(opened, "cache") and _painted(opened, "jobs")
    assert _errors(opened) == []


@needs_chromium
def test_the_playground_streams_from_two_models_side_by_side(browser, serve):
    with serve(turn_s=0.1) as server:
        _forget_logs(browser)
        browser.get(server.url.removesuffix("/v1") + "/")
        _until(lambda: browser.find_elements("css selector", "#left-model option"))
        browser.find_element("id", "max-tokens").clear()
        browser.find_element("id", "max-tokens").send_keys("60")
        browser.find_element("id", "prompt").send_keys("hello the cat")
        browser.find_element("id", "send").click()
        _until(lambda: all(browser.find_element("id", side).text for side in ("left", "right")))
        early = {side: len(browser.find_element("id", side).text) for side in ("left", "right")}
        _until(lambda: all("60 tokens in" in browser.find_element("id", f"{side}-note").text for side in ("left", "right")))

        assert {request.model for request in server.engine.submitted} == {"org/a", "plain"}
        assert all(len(browser.find_element("id", side).text) > early[side] for side in early), "the answers did not stream"
        assert "first token after" in browser.find_element("id", "left-note").text
        assert not browser.find_element("id", "stop").is_enabled()
        assert _errors(browser) == []


@needs_chromium
def test_a_conversation_goes_on_until_a_new_one_is_begun(browser, server):
    _open(browser, server)
    for prompt in ("hello", "more"):
        _ask_both(browser, prompt)
    assert browser.find_element("css selector", "#left-history li").text == "hello"
    chats = [request for request in server.engine.submitted if request.model == "org/a"]
    assert len(chats[1].prompt) > 2 * len(chats[0].prompt)  # it has the first question and answer too
    completions = [request for request in server.engine.submitted if request.model == "plain"]
    assert len(completions[1].prompt) < len(chats[1].prompt)  # a model without a template has no conversation
    browser.find_element("id", "anew").click()
    _ask_both(browser, "hello")
    again = [request for request in server.engine.submitted if request.model == "org/a"][2]
    assert again.prompt == chats[0].prompt
    assert browser.find_elements("css selector", "#left-history li") == []
    assert _errors(browser) == []


@needs_chromium
def test_the_command_to_copy_asks_what_the_page_asks(browser, server):
    _open(browser, server)
    browser.find_element("id", "prompt").send_keys('it\'s "so"')
    browser.find_element("css selector", "#playground details summary").click()
    command = browser.find_element("id", "curl").text
    answer = json.loads(
        subprocess.run(["bash", "-c", command.replace("curl ", "curl -s ", 1)], capture_output=True, text=True, check=True).stdout
    )
    assert answer["model"] == "org/a" and answer["usage"]["completion_tokens"] > 0


@needs_chromium
def test_requests_and_refusals_are_listed_and_words_explained(browser, server):
    _open(browser, server)
    ask(server, "POST", "/v1/completions", {"model": "a", "prompt": "hello", "max_tokens": 5})
    ask(server, "POST", "/v1/completions", {"model": "none", "prompt": "hello"})
    _until(lambda: "org/a" in browser.find_element("id", "requests").text)
    _until(lambda: "model_not_found" in browser.find_element("id", "refusals").text)
    assert "at its limit" in browser.find_element("id", "requests").text
    assert "1 with 404" in browser.find_element("id", "refusals-text").text
    words = {tip.text.split()[0]: tip.get_attribute("data-tip") for tip in browser.find_elements("class name", "tip")}
    assert {"head", "quota", "p50", "p99"} <= words.keys() and all(words.values())
    totals = browser.find_element("id", "totals").text
    assert "memory" in totals and "since the start" in totals


@needs_chromium
def test_a_model_is_put_to_sleep_and_woken_with_the_admin_key(browser, catalog):
    unit = UnitOptions(models=tuple(ModelOptions(name=name, path=Path(name)) for name in ("org/a", "plain")))
    lifecycle = FakeLifecycle(["org/a", "plain"])
    engine = FakeEngine(["org/a", "plain"])
    engine.states = lifecycle.states
    service = Service(engine, catalog, unit, lifecycle)
    with in_background(service, HttpOptions(port=0, admin_keys=(digest("sesame"),))) as url:
        _forget_logs(browser)
        browser.get(url.removesuffix("/v1") + "/")
        _until(lambda: len(browser.find_elements("css selector", ".model")) == 2)
        _press(browser, "Sleep")
        _until(lambda: "admin key" in browser.find_element("id", "change").text)
        assert lifecycle.states()["org/a"] == "ready"
        browser.find_element("id", "admin-key").send_keys("sesame\t")
        _press(browser, "Sleep")
        _until(lambda: lifecycle.states()["org/a"] == "asleep" and "Sleep org/a: done" in browser.find_element("id", "change").text)
        _until(lambda: "asleep" in browser.find_element("css selector", "[data-model='org/a']").text)
        _press(browser, "Wake")
        _until(lambda: lifecycle.states()["org/a"] == "ready")
        assert "sesame" not in browser.execute_script("return document.documentElement.outerHTML + location + document.cookie")


def _open(browser, server) -> None:
    """Opens the page in whose playground nothing has been asked, for short answers."""
    _forget_logs(browser)
    browser.get(server.url.removesuffix("/v1") + "/")
    _until(lambda: browser.find_elements("css selector", "#left-model option"))
    browser.find_element("id", "max-tokens").clear()
    browser.find_element("id", "max-tokens").send_keys("4")


def _ask_both(browser, prompt: str) -> None:
    box = browser.find_element("id", "prompt")
    box.clear()
    box.send_keys(prompt)
    browser.find_element("id", "send").click()
    _until(lambda: all("4 tokens in" in browser.find_element("id", f"{side}-note").text for side in ("left", "right")))


def _press(browser, text: str) -> None:
    """The button of that text on the first model's card."""
    (button,) = (one for one in browser.find_elements("css selector", "[data-model='org/a'] button") if one.text == text)
    button.click()


@needs_chromium
def test_stop_ends_both_answers_on_the_server_too(browser, serve):
    with serve(turn_s=0.2) as server:
        browser.get(server.url.removesuffix("/v1") + "/")
        _until(lambda: browser.find_elements("css selector", "#left-model option"))
        browser.find_element("id", "max-tokens").clear()
        browser.find_element("id", "max-tokens").send_keys("90")
        browser.find_element("id", "prompt").send_keys("hi")
        browser.find_element("id", "send").click()
        _until(lambda: server.engine.live == 2)
        browser.find_element("id", "stop").click()
        _until(lambda: server.engine.live == 0)

        assert len(set(server.engine.cancelled)) == 2


@needs_chromium
def test_a_server_with_keys_is_locked_until_one_is_entered(browser, catalog):
    engine = FakeEngine(["org/a", "plain"])
    with in_background(Service(engine, catalog), HttpOptions(port=0, api_keys=(digest("sesame"),))) as url:
        _forget_logs(browser)
        browser.get(url.removesuffix("/v1") + "/")
        _until(lambda: browser.find_element("id", "state").text == "locked")
        assert "API key" in browser.find_element("id", "trouble").text
        browser.find_element("id", "key").send_keys("sesame\t")
        _until(lambda: len(browser.find_elements("css selector", ".model")) == 2)
        browser.find_element("id", "max-tokens").clear()
        browser.find_element("id", "max-tokens").send_keys("3")
        browser.find_element("id", "prompt").send_keys("hi")
        browser.find_element("id", "send").click()
        _until(lambda: all("3 tokens in" in browser.find_element("id", f"{side}-note").text for side in ("left", "right")))

        assert not browser.find_element("id", "trouble").is_displayed()
        assert "sesame" not in browser.execute_script("return document.documentElement.outerHTML + location + document.cookie")


@needs_chromium
def test_a_server_that_goes_away_is_told_and_found_again(browser, catalog):
    http = HttpOptions(port=_free_port())
    for _ in range(2):
        with in_background(Service(FakeEngine(["org/a", "plain"]), catalog), http) as url:
            if browser.current_url != url.removesuffix("/v1") + "/":
                browser.get(url.removesuffix("/v1") + "/")
            _until(lambda: browser.find_element("id", "state").text == "ready")
            assert not browser.find_element("id", "trouble").is_displayed()
        _until(lambda: browser.find_element("id", "state").text == "away")


@needs_chromium
def test_nothing_is_asked_of_anybody_else(opened, server):
    asked, ours = StepControls(opened), server.url.removesuffix("/v1")
    _until(lambda: len([url for url in asked.urls() if "/server_info/live" in url]) >= 2)

    assert [url for url in asked.urls() if not url.startswith((ours, "data:", "chrome"))] == []


@needs_chromium
def test_a_foreign_request_would_be_stopped_and_noticed(opened):
    """The near-miss of the two above: the policy refuses it, and the log tells."""
    opened.execute_script("fetch('http://example.invalid/x').catch(() => {})")
    _until(lambda: any("Content Security Policy" in message or "content security" in message.lower() for message in _errors(opened)))


@needs_chromium
@pytest.mark.parametrize("width", [360, 768])
def test_it_fits_a_narrow_screen(opened, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        _until(lambda: opened.execute_script("return document.documentElement.clientWidth") == width)
        assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _until(holds) -> None:
    from selenium.common.exceptions import StaleElementReferenceException

    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            if holds():
                return
        except StaleElementReferenceException:
            pass  # the page has just replaced it
        assert time.monotonic() < end_s, "it did not come"
        time.sleep(0.05)


def _painted(browser, name: str) -> bool:
    """The canvas shows more than one colour."""
    return browser.execute_script(
        f"const c = document.getElementById('{name}');"
        "return new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size > 2"
    )


def _errors(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


class StepControls:
    """Addresses of the requests that a page makes."""

    def __init__(self, browser):
        self._browser = browser
        self._seen: list[str] = []

    def urls(self) -> list[str]:
        """All since the page was opened."""
        for entry in self._browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._seen.append(message["params"]["request"]["url"])
        return self._seen


def _forget_logs(browser) -> None:
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
