"""Tensors of a folder's safetensors files as they are stored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from muxjax.errors import CheckpointError
from muxjax.models.stored.made import Index, Made
from muxjax.specs.folders import no_weights, require_no_pointer
from muxjax.specs.weight_files import DTYPES, StoredTensor, full_name, read_headers, weight_files

_DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}
assert _DTYPES.keys() == DTYPES.keys()
_F8 = "F8_E4M3"


class StoredTensors:
    """All tensors of a folder by full name; only headers are read until `read`.

    Raises:
      CheckpointError: no safetensors, or a file that is missing or damaged.
    """

    def __init__(self, folder: Path):
        self.folder, paths = folder, weight_files(folder)
        if not paths:
            raise no_weights(folder)
        self._opened: Mapping[Path, Any] = {path: _open(path) for path in paths}
        self._names = {full_name(name): name for opened in self._opened.values() for name in opened.keys()}  # noqa: SIM118  (no dictionary)
        self._headers: Mapping[str, StoredTensor] = read_headers(folder)
        self.shapes = {name: header.shape for name, header in self._headers.items()}

    def is_fp8(self, name: str) -> bool:
        return self._headers[name].dtype == _F8

    def where(self, name: str) -> Path:
        """The file that holds it."""
        return self._headers[name].path

    def wide(self, name: str) -> Made:
        """A tensor that needs nothing but reading; a number alone as a vector of one.

        Raises:
          CheckpointError: it is of a dtype not supported.
        """
        self.require_dtype(name)
        header = self._headers[name]
        if not header.shape:
            return Made((1,), _DTYPES[header.dtype], lambda index: self.whole(name).reshape(1)[index])
        return Made(header.shape, _DTYPES[header.dtype], lambda index: self.read(name, index))

    def require_dtype(self, name: str, right: tuple[str, ...] = tuple(_DTYPES)) -> None:
        """
        Raises:
          CheckpointError: it is of another dtype.
        """
        header = self._headers[name]
        if header.dtype not in right:
            raise CheckpointError(f"{header.path}: {name} is stored as {header.dtype}; supported are {', '.join(right)}")

    def whole(self, name: str) -> np.ndarray:
        """All of one that is small.

        Raises:
          CheckpointError: the file cannot be read to its end.
        """
        try:
            return self._opened[self._headers[name].path].get_tensor(self._names[name])
        except (SafetensorError, OSError) as error:
            raise self._unreadable(name, error) from error

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of it.

        Raises:
          CheckpointError: the file cannot be read to its end.
        """
        header = self._headers[name]
        try:
            if header.dtype == _F8:  # which safetensors does not give to numpy
                stored = np.memmap(header.path, np.uint8, "r", offset=header.start, shape=header.shape)
                return np.array(stored[index]).view(ml_dtypes.float8_e4m3fn)
            return self._opened[header.path].get_slice(self._names[name])[index]
        except (SafetensorError, OSError) as error:
            raise self._unreadable(name, error) from error

    def _unreadable(self, name: str, error: Exception) -> CheckpointError:
        return CheckpointError(f"{self.where(name)}: {name} cannot be read: {error}")


def _open(path: Path) -> Any:
    require_no_pointer(path)
    try:
        return safe_open(path, framework="np")
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist, but the index names it") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
