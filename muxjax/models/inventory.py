"""Whether a checkpoint holds what its model needs: no more, no less, and in the right shapes."""

from collections.abc import Mapping

from muxjax.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

_NAMED = 5


def check_inventory(where: object, found: Shapes, needed: Shapes) -> None:
    """Compares tensors by name and shape.

    Raises:
      CheckpointError: naming up to five tensors that are missing, left over or of another shape, and how many there are.
    """
    _refuse(where, "lacks", sorted(needed.keys() - found.keys()), len(needed))
    _refuse(where, "holds, beyond what its config describes,", sorted(found.keys() - needed.keys()), len(found))
    wrong = [f"{name} {list(found[name])} instead of {list(shape)}" for name, shape in needed.items() if found[name] != shape]
    _refuse(where, "has in another shape than its config says", wrong, len(needed))


def _refuse(where: object, fault: str, tensors: list[str], total: int) -> None:
    if tensors:
        more = f" and {len(tensors) - _NAMED} more" if len(tensors) > _NAMED else ""
        raise CheckpointError(f"{where} {fault} {len(tensors)} of {total} tensors: {', '.join(tensors[:_NAMED])}{more}")
