"""Adapters in the host's memory: those that somebody holds, and the last ones that nobody does any more."""

import functools
import weakref

from muxjax.model_spec import ModelSpec
from muxjax.models.lora.files import AdapterWeights, read_adapter
from muxjax.types import Adapter


class AdapterStore:
    """Weights of one model's adapters by adapter; from any thread.

    Args:
      most_rank: of an adapter.
      idle: so many are kept while nobody holds them.
    """

    def __init__(self, spec: ModelSpec, *, most_rank: int, idle: int):
        self._spec, self._most_rank = spec, most_rank
        self._held: weakref.WeakValueDictionary[Adapter, AdapterWeights] = weakref.WeakValueDictionary()
        self._recent = functools.lru_cache(maxsize=idle)(self._held_or_read)

    def hold(self, adapter: Adapter) -> AdapterWeights:
        """An adapter's weights, which are here as long as the caller has them; read where they are not here yet, which takes long.

        Raises:
          ConfigError, CheckpointError: as of `models.lora.files.read_adapter`.
        """
        return self._recent(adapter)

    def _held_or_read(self, adapter: Adapter) -> AdapterWeights:
        weights = self._held.get(adapter)
        if weights is None:
            weights = self._held[adapter] = read_adapter(adapter, self._spec, most_rank=self._most_rank)
        return weights
