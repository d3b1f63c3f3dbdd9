"""Files that are there whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from muxjax.errors import ConfigError

_PROBE_BYTES = 4096


def require_writable(path: Path, *, field: str) -> None:
    """Finds before long work that its result could not be written; leaves no trace.

    Raises:
      ConfigError: the place is a folder, in none that is there, not writable, or on a full disk.
    """
    part = _part(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with part.open("wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:
        raise _unwritable(path, field, error) from error
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
def whole_file(path: Path, *, field: str) -> Iterator[TextIO]:
    """A text file to write, which takes its place once the block has ended; after an error nothing is changed.

    Raises:
      ConfigError: the place cannot be written to.
    """
    part = _part(path)
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, field, error) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.parent / f"{path.name}.{os.getpid()}.part"


def _unwritable(path: Path, field: str, error: Exception) -> ConfigError:
    return ConfigError(f"{str(path)[:200]} cannot be written: {getattr(error, 'strerror', '') or error}", field=field)
