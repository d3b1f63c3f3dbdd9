"""`muxjax ps`, `load`, `unload`, `sleep`, `wake`: models of a running server, by its administration (docs/http.md)."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from muxjax.bench.client.address import key_in, server_url
from muxjax.commands.client.http import BROKEN, JsonServer
from muxjax.errors import ConfigError, MuxError
from muxjax.server.admission.tenants import require_key
from muxjax.units import show_bytes, show_table

ADMIN_KEY = "MUXJAX_ADMIN_KEY"
_CHANGE_S = 3600
"""Loading may take long, and the server says nothing meanwhile."""
_DONE = {"unload": "has been removed", "sleep": "sleeps", "wake": "is awake"}


class AdminClient:
    """A server with the key for its administration.

    Args:
      url: of the server, or of its port for administration; as of its API is taken too.
      key: None for the one that the environment names.
    """

    def __init__(self, url: str, key: str | None = None, environment: Mapping[str, str] = os.environ):
        key = environment.get(ADMIN_KEY, "") if key is None else key
        if key:
            require_key("admin_key", key)
        self._admin = JsonServer(server_url(url), key, silence_s=_CHANGE_S)
        self._public = JsonServer(server_url(url), key_in(environment))
        self._has_key = bool(key)

    def picture(self) -> dict[str, Any]:
        """Models by name with their states and counts, and the cache's blocks: by administration, or else as everybody may see it.

        Raises:
          MuxError: what the server says is wrong.
        """
        if not self._has_key:
            return self._public.ask("server_info/live")
        told = self._admin.ask("admin/models")
        try:
            return {**told["cache"], "models": {model["name"]: model for model in told["data"]}}
        except BROKEN as error:
            raise MuxError(f"what {self._admin.url} answers is no list of models") from error

    def adapters(self) -> dict[str, list[str]]:
        """Names of LoRA adapters by the model that they are over, from where the picture is, too.

        Raises:
          MuxError: what the server says is wrong.
        """
        server, path, base = (self._admin, "admin/adapters", "model") if self._has_key else (self._public, "v1/models", "parent")
        found: dict[str, list[str]] = {}
        try:
            for entry in server.ask(path)["data"]:
                if entry[base] is not None:
                    found.setdefault(entry[base], []).append(entry["id" if base == "parent" else "name"])
        except BROKEN as error:
            raise MuxError(f"what {server.url} answers is no list of adapters") from error
        return found

    def change(self, path: str, body: object = None, *, method: str = "POST") -> Any:
        """Has models changed.

        Raises:
          ConfigError: there is no key.
          MuxError: what the server says is wrong.
        """
        if not self._has_key:
            raise ConfigError(f"changing models takes the server's key for administration: --admin-key, or {ADMIN_KEY}", field="admin_key")
        return self._admin.ask(f"admin/models{path}", body, method=method)


def ps(client: AdminClient) -> None:
    """Prints a line for each model and each adapter over it, and one for the cache.

    Raises:
      MuxError: the server answers something else.
    """
    picture, adapters = client.picture(), client.adapters()
    try:
        print("\n".join(show_table([("MODEL", "STATE", "RUNNING", "WAITING", "CACHE", "QUOTA"), *_rows(picture, adapters)])))
        total, free = picture["total_blocks"], picture["free_blocks"]
        size = f" of {show_bytes(picture['block_bytes'])}" if "block_bytes" in picture else ""
        print(f"cache: {total - free} of {total} head blocks{size} in use")
    except BROKEN as error:
        raise MuxError("what the server answers is no list of models") from error


def load(client: AdminClient, source: str, settings: Sequence[str]) -> None:
    """Has a model loaded, and waits until it is served.

    Raises:
      ConfigError: no name and folder, or a setting without a value.
      MuxError: what the server says is wrong.
    """
    name, equals, path = source.partition("=")
    if not equals:
        name, path = Path(source).resolve().name, source
    if Path(path).is_dir():
        path = str(Path(path).resolve())  # of this folder the server knows nothing
    if not (name and path):
        raise ConfigError(f"expected a folder or NAME=FOLDER, got {source[:200]!r}", field="source")
    body = {"name": name, "path": path, **dict(map(_setting, settings))}
    if sys.stderr.isatty():
        print(f"loading {name}, which may take minutes", file=sys.stderr, flush=True)
    entry = client.change("", body)
    print(f"{name} is {entry.get('state', 'there')}")


def change(client: AdminClient, what: str, model: str, timeout_s: float | None) -> None:
    """Has a model unloaded, put to sleep or woken, and waits until that is done.

    Raises:
      MuxError: what the server says is wrong.
    """
    query = "" if timeout_s is None else f"?timeout={timeout_s:g}"
    path = f"/{quote(model, safe='')}"
    if what == "unload":
        client.change(path + query, method="DELETE")
    else:
        client.change(f"{path}/{what}{query}")
    print(f"{model} {_DONE[what]}")


def _rows(picture: Mapping[str, Any], adapters: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, ...]]:
    total = max(1, picture["total_blocks"])
    for name, model in picture["models"].items():
        counted = model if model["state"] == "ready" else {}
        shares = (f"{counted[count] / total:.0%}" if count in counted else "-" for count in ("held_blocks", "quota_blocks"))
        yield name, model["state"], str(model.get("running", "-")), str(model.get("waiting", "-")), *shares
        yield from ((f"  {adapter}", model["state"], *"----") for adapter in adapters.get(name, ()))  # counted with their model


def _setting(text: str) -> tuple[str, Any]:
    """Raises ConfigError: no KEY=VALUE."""
    key, equals, value = text.partition("=")
    try:
        read = yaml.safe_load(value)
    except yaml.YAMLError:
        read = value
    if not (key and equals):
        raise ConfigError(f"--set must be KEY=VALUE, such as max_num_seqs=32, got {text[:200]!r}", field="set")
    return key.replace("-", "_"), read
