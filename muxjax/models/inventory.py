"""Whether a checkpoint holds what its model needs: no more, no less, and in the right shapes."""

from collections.abc import Iterable, Mapping

from muxjax.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]

_NAMED = 5
_OWNERS = {
    "base_model.model.": "peft saved it with an adapter on it; save what merge_and_unload() returns",
    "_orig_mod.": "torch.compile was on it as it was saved; save what it compiled",
    "module.": "it was saved out of torch's data parallelism; save the model inside",
}
"""What puts a prefix before every name, and how to get rid of it."""
_LARGER = "the decoder is a part of a larger model, as of one for pictures, which is not supported"


def check_inventory(where: object, found: Shapes, needed: Shapes) -> None:
    """Compares tensors by name and shape.

    Raises:
      CheckpointError: saying what has put a prefix before all names; or naming up to five tensors that are missing, left over or of another
        shape, and how many there are.
    """
    if prefix := strange_prefix(found, needed):
        raise CheckpointError(f"{where} names its tensors {prefix}{min(needed)} and so on: {_OWNERS.get(prefix, _LARGER)}")
    _refuse(where, "lacks", sorted(needed.keys() - found.keys()), len(needed))
    _refuse(where, "holds, beyond what its config describes,", sorted(found.keys() - needed.keys()), len(found))
    wrong = [f"{name} {list(found[name])} instead of {list(shape)}" for name, shape in needed.items() if found[name] != shape]
    _refuse(where, "has in another shape than its config says", wrong, len(needed))


def strange_prefix(found: Iterable[str], needed: Iterable[str]) -> str | None:
    """What stands before each of the needed names in those that were found; None where there are names without it."""
    found, needed = set(found), set(needed)
    if not needed or not found.isdisjoint(needed):
        return None
    first = min(needed)
    prefixes = {name.removesuffix(first) for name in found if name.endswith(first)}
    return next((prefix for prefix in sorted(prefixes) if all(prefix + name in found for name in needed)), None)


def _refuse(where: object, fault: str, tensors: list[str], total: int) -> None:
    if tensors:
        more = f" and {len(tensors) - _NAMED} more" if len(tensors) > _NAMED else ""
        raise CheckpointError(f"{where} {fault} {len(tensors)} of {total} tensors: {', '.join(tensors[:_NAMED])}{more}")
