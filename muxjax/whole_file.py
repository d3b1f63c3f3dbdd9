"""Files that are there whole or not at all, and files that are read whole."""

import errno
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from muxjax.errors import ConfigError
from muxjax.units import show_bytes

_HEAD_BYTES = 256
_PROBE_BYTES = 4096


def require_writable(path: Path, *, field: str, begins: Sequence[bytes] | None = None) -> None:
    """Finds before long work that its result could not be written; leaves no trace.

    Args:
      begins: beginnings, without spaces, of the files that may be written over; None for any.
    Raises:
      ConfigError: the place is a folder, in none that is there, not writable, or on a full disk; or a file is there that is none of ours.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if _is_special(path):
            path.open("ab").close()
            return
        _probe(_part(path))
        head = _head(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unwritable(path, field, error) from error
    if begins is not None and head and not head.startswith(tuple(begins)):
        raise ConfigError(f"{path} cannot be written: it is there and holds something else; name another file", field=field)


def _probe(part: Path) -> None:
    """Writes a little and takes it away."""
    try:
        with part.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with suppress(OSError, ValueError):
            part.unlink(missing_ok=True)


def keeps_files(folder: str, *, field: str) -> bool:
    """New files can be kept in a folder, which is made if it is not there.

    Raises:
      ConfigError: it is no folder.
    """
    try:
        path = Path(folder).expanduser()
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        path.mkdir(parents=True, exist_ok=True)
    except (NotADirectoryError, FileExistsError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{folder[:200]} is no folder: {getattr(error, 'strerror', '') or error}", field=field) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigError(f"{folder[:200]} is no folder: {error.strerror}", field=field) from error
        return False
    try:
        require_writable(path / "probe", field=field)
    except ConfigError:
        return False
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write, which takes its place once the block has ended; after an error, or a kill, nothing is changed.

    Raises:
      OSError: the place cannot be written to.
    """
    part = _part(path)
    try:
        yield part
        part.replace(path.resolve())
    finally:
        with suppress(OSError, RuntimeError, ValueError):
            part.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path, *, field: str) -> Iterator[TextIO]:
    """A text file to write, which takes its place once the block has ended; after an error nothing is changed.

    What a link names is written, not the link; a pipe or a device is written to as it is.
    Raises:
      ConfigError: the place cannot be written to.
    """
    try:
        if _is_special(path):
            with path.open("w", encoding="utf-8", newline="\n") as file:
                yield file
            return
        with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
    except OSError as error:
        raise _unwritable(path, field, error) from error


def write_json(path: Path, value: object, *, field: str) -> None:
    """Writes a file of JSON whole or not at all.

    Raises:
      ConfigError: the place cannot be written to.
    """
    with whole_file(path, field=field) as file:
        file.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def _is_special(path: Path) -> bool:
    """Whether something is there that is neither file nor folder: a pipe, or a device such as /dev/null."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _part(path: Path) -> Path:
    """The file beside it that is written first."""
    whole = path.resolve()
    return whole.parent / f"{whole.name}.{os.getpid()}.{threading.get_ident()}.part"


def _head(path: Path) -> bytes:
    """The beginning of the file without spaces; nothing of one that is not there."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return b"".join(file.read(_HEAD_BYTES).split())


def read_whole(path: Path, *, most_bytes: int, field: str = "") -> str:
    """The text of a file in UTF-8.

    Raises:
      ConfigError: it cannot be read, holds more than most_bytes, or is no UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)  # a device such as /dev/zero has no end
        if len(data) > most_bytes:
            raise ConfigError(f"cannot read {path}: it holds more than {show_bytes(most_bytes)}", field=field)
        return data.decode()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}", field=field) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read {path}: it is no UTF-8 at byte {error.start}", field=field) from error
    except ValueError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error}", field=field) from error


def _unwritable(path: Path, field: str, error: Exception) -> ConfigError:
    return ConfigError(f"{str(path)[:200]} cannot be written: {getattr(error, 'strerror', '') or error}", field=field)
