"""Compiled programs in a folder, found again by what they were made of, without tracing or lowering.

A file is a line of JSON, its header, and a pickle of JAX's serialized executable. A pickle runs what it says, so only files are read
that this user or root has written and nobody else can change. A file that is not what its name promises is as good as none: one warning
a kind of trouble, and the program is compiled.
"""

import hashlib
import json
import logging
import os
import pickle
import stat
import threading
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from muxjax.errors import first_line
from muxjax.whole_file import replacing

_log = logging.getLogger(__name__)

_FORMAT = 1
_MOST_HEADER_BYTES = 2**16


def without_jax_cache() -> None:
    """Has JAX read no compiled program from a cache of its own, from now on: what XLA for CPU has read it serializes without its kernels,
    and says nothing. So what JAX may have read before is forgotten as well."""
    if jax.config.jax_enable_compilation_cache:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        jax.clear_caches()


class _UnusableError(Exception):
    """A file that holds no program we can take."""


class ProgramStore:
    """Programs of one environment (`environment.environment`) in one folder, which several processes may use at once.

    Args:
      folder: made when the first program is kept; None keeps nothing.
      environment: whatever all programs depend on.
    """

    def __init__(self, folder: Path | None, environment: str):
        self._environment = environment
        self._folder = folder / hashlib.sha256(environment.encode()).hexdigest()[:16] if folder else None
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    def path(self, source: str) -> Path | None:
        """The file of the program made of `source`, be it there or not; None where nothing is kept."""
        return self._folder / f"{hashlib.sha256(source.encode()).hexdigest()[:32]}.program" if self._folder else None

    def load(self, source: str, devices: tuple[jax.Device, ...]) -> jax.stages.Compiled | None:
        """The program made of `source`, for those devices; None if it is not there, or of no use."""
        path = self.path(source)
        if path is None:
            return None
        try:
            payload = self._read(path, source)
            serialized, in_tree, out_tree = pickle.loads(payload)
            return serialize_executable.deserialize_and_load(serialized, in_tree, out_tree, devices[0].client, devices)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a file of others brings up
            self._warn(f"{type(error).__name__}", f"{path} is of no use, and its program is compiled: {first_line(error)}")
            return None

    def kept_bytes(self, source: str) -> int | None:
        """Size of the file of the program made of `source`, which is whole; None if it is not there, or of no use."""
        path = self.path(source)
        try:
            if path is None or not self._read(path, source):
                return None
            return path.stat().st_size
        except (OSError, _UnusableError):
            return None

    def keep(self, source: str, program: jax.stages.Compiled) -> None:
        """Keeps a program for the next start, if the folder can be written to."""
        path = self.path(source)
        if path is None:
            return
        try:
            payload = pickle.dumps(serialize_executable.serialize(program))
            _write_whole(path, self._header(source, payload), payload)
        except OSError as error:
            self._warn("write", f"programs are not kept: {path.parent} cannot be written to: {error.strerror or error}")
        except Exception as error:  # a backend that serializes nothing
            self._warn("serialize", f"programs are not kept: {first_line(error)}")

    def _header(self, source: str, payload: bytes) -> bytes:
        header = {
            "format": _FORMAT,
            "environment": self._environment,
            "source": source,
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        return json.dumps(header).encode() + b"\n"

    def _read(self, path: Path, source: str) -> bytes:
        with path.open("rb") as file:
            _require_ours(os.fstat(file.fileno()))
            header = _parsed(file.readline(_MOST_HEADER_BYTES))
            if (header.get("format"), header.get("environment"), header.get("source")) != (_FORMAT, self._environment, source):
                raise _UnusableError("it was made of something else")
            payload = file.read()
        if len(payload) != header.get("bytes") or hashlib.sha256(payload).hexdigest() != header.get("sha256"):
            raise _UnusableError("it is damaged")
        return payload

    def _warn(self, kind: str, message: str) -> None:
        """Once a kind of trouble: a store of another machine has a thousand files."""
        with self._lock:
            if kind in self._warned:
                return
            self._warned.add(kind)
        _log.warning("%s", message)


def _require_ours(status: os.stat_result) -> None:
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _UnusableError("others could have written it")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError as error:
        raise _UnusableError("it has no header") from error
    if not isinstance(header, dict):
        raise _UnusableError("it has no header")
    return header


def _write_whole(path: Path, *parts: bytes) -> None:
    """All of a file or nothing; nobody else may write to it, whatever the process's mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as file:
        file.writelines(parts)
