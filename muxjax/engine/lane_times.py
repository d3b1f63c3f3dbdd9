"""When steps really began: a lane runs one after another, however early they were launched."""


class LaneTimes:
    """Ends of the last step of each lane, by which the next one's begin is known."""

    def __init__(self):
        self._ends: dict[int, float] = {}

    def began_s(self, lane: int, launched_s: float, end_s: float) -> float:
        """When a step began that has ended: at its launch, or at the end of the one before it on its lane, if that was later."""
        began_s = min(max(launched_s, self._ends.get(lane, launched_s)), end_s)
        self._ends[lane] = end_s
        return began_s
