"""Places for adapters: which of them a step finds there, and which have to go."""

from pathlib import Path

import jax
import numpy as np
import pytest

from muxjax.device.lora.places import AdapterPlaces
from muxjax.device.lora.store import AdapterStore
from muxjax.models.lora.adapters import NO_PLACE
from muxjax.models.lora.files import open_adapter
from muxjax.models.sharding import Devices
from muxjax.specs.adapter import WEIGHTS, adapter_params
from muxjax.types import Adapter
from tests.models.adapter import make_adapter
from tests.models.test_weights import SPEC

RANK = 4


@pytest.fixture(scope="module")
def adapters(tmp_path_factory) -> list[Adapter]:
    folders = [make_adapter(tmp_path_factory.mktemp(f"a{seed}"), SPEC, seed) for seed in range(4)]
    return [open_adapter(folder.name, folder, SPEC, most_rank=RANK) for folder in folders]


def store_of(idle: int = 8) -> AdapterStore:
    return AdapterStore(SPEC, most_rank=RANK, idle=idle)


class Places(AdapterPlaces):
    """Two of them, with a program that notes where adapters are put."""

    def __init__(self):
        super().__init__(SPEC, Devices.first(1), store_of(), count=2, rank=RANK, slots=4)
        self.put: list[int] = []
        self.add(self._note)  # pyright: ignore[reportArgumentType]

    def _note(self, pairs, one, place):
        self.put.append(int(place))
        return jax.tree.map(lambda all_, new: all_.at[(slice(None),) * (all_.ndim - 3) + (int(place),)].set(new), pairs, one)

    def at(self, slots: list[int], *adapters: Adapter | None) -> list[int]:
        self.place(np.array(slots, np.int32), adapters)
        return np.asarray(self.loras.place_S)[slots].tolist()


def test_an_adapter_stays_where_it_is_until_the_least_recently_used_has_to_go(adapters):
    places, (a, b, c, _) = Places(), adapters
    assert places.at([0, 1], a, b) == [0, 1]
    assert places.at([1, 0], a, None) == [0, NO_PLACE]
    assert places.at([2], c) == [1]  # b was used before a
    assert places.at([0, 3], a, c) == [0, 1]
    assert places.at([0], b) == [0]
    assert places.put == [0, 1, 1, 0]


def test_none_of_a_step_goes_for_another_of_it(adapters):
    places, (a, b, c, d) = Places(), adapters
    places.at([0, 1], a, b)
    assert sorted(places.at([0, 1], c, a)) == [0, 1]
    assert sorted(places.at([0, 1], d, c)) == [0, 1]
    assert places.put[2:] == [1, 0]


def test_what_a_step_was_launched_with_stays_when_a_slot_gets_another(adapters):
    places, (a, b, *_) = Places(), adapters
    places.at([0], a)
    before = places.loras
    places.at([0], b)
    assert np.asarray(before.place_S)[0] == 0
    assert np.asarray(places.loras.place_S)[0] == 1


def test_places_that_are_made_anew_are_empty(adapters):
    places = Places()
    places.at([0], adapters[0])
    assert any(np.asarray(leaf).any() for leaf in places.arrays)
    places.delete()
    assert places.arrays == []
    places.clear()
    assert not any(np.asarray(leaf).any() for leaf in places.arrays)
    assert sum(leaf.nbytes for leaf in places.arrays) == places.device_bytes == 2 * adapter_params(SPEC, RANK) * 4
    assert places.at([0], adapters[0]) == [0]


def test_weights_are_read_once_while_somebody_holds_them_and_some_are_kept_beyond(adapters, tmp_path):
    a, b, *_ = adapters
    store = store_of(idle=0)
    held = store.hold(a)
    assert store.hold(a) is held
    other = id(store.hold(b))
    assert store.hold(b) is not held and other
    keeping = store_of(idle=1)
    first = id(keeping.hold(a))
    assert id(keeping.hold(a)) == first


def test_what_is_held_needs_no_file_any_more(tmp_path: Path):
    folder = make_adapter(tmp_path, SPEC, 1)
    store, adapter = store_of(idle=0), open_adapter("a", folder, SPEC, most_rank=RANK)
    held = store.hold(adapter)
    (folder / WEIGHTS).unlink()
    assert store.hold(adapter) is held
