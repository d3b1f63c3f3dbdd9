"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from muxjax.errors import ConfigError


@contextmanager
def whole_file(path: Path, *, field: str) -> Iterator[TextIO]:
    """A text file to write, which takes its place once the block has ended; after an error nothing is changed.

    Raises:
      ConfigError: the place cannot be written to.
    """
    part = path.parent / f"{path.name}.{os.getpid()}.part"
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", field=field) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
