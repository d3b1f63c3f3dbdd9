"""Least fixed point of needs: what holds because all that it needs does, down to what needs nothing."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def holding(needs: Mapping[K, Sequence[Sequence[K]]]) -> set[K]:
    """Those of which every list has one that holds. What needs itself does not hold, nor does what is no key."""
    users: dict[K, list[tuple[K, int]]] = {}
    for one, groups in needs.items():
        for place, group in enumerate(groups):
            for other in group:
                users.setdefault(other, []).append((one, place))
    unmet = {one: set(range(len(groups))) for one, groups in needs.items()}
    held: set[K] = set()
    queue = [one for one, groups in needs.items() if not groups]
    while queue:
        other = queue.pop()
        if other in held:
            continue
        held.add(other)
        for one, place in users.get(other, ()):
            unmet[one].discard(place)
            if not unmet[one]:
                queue.append(one)
    return held
