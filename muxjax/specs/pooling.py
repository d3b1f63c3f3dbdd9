"""How a checkpoint's hidden states become embeddings, as sentence-transformers keeps it beside the weights."""

import logging
from pathlib import Path

from muxjax.specs.fields import Fields
from muxjax.types import Pooling

_FILE = Path("1_Pooling") / "config.json"
_MODES = {"lasttoken": Pooling.LAST, "mean_tokens": Pooling.MEAN, "mean": Pooling.MEAN}
_log = logging.getLogger(__name__)


def read_pooling(folder: Path, chosen: str | None = None) -> Pooling | None:
    """The pooling of a model's folder, unless another is chosen; None of a model that is not for embeddings.

    Raises:
      ConfigError: the file cannot be read.
    """
    if chosen is not None:
        return Pooling(chosen)
    path = folder / _FILE
    if not path.exists():
        return None
    values = Fields.load(path).values
    modes = [name.removeprefix("pooling_mode_") for name, is_on in values.items() if name.startswith("pooling_mode_") and is_on is True]
    mode = modes[0] if len(modes) == 1 else values.get("pooling_mode")
    if isinstance(mode, str) and mode in _MODES:
        return _MODES[mode]
    _log.warning("no embeddings: %s pools by %s, and only the last token and the mean are known", path, modes or mode)
    return None
