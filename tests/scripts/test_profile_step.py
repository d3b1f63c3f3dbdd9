"""A step's time, added up by what its kernels do."""

from scripts.profile_step import OTHERS, WAITING, Event, summary


def step(begin_us: float, product_us: float) -> list[Event]:
    """A copy of 2 us, 3 of waiting, a product, a small kernel of 4 that begins 1 early, and 5 of waiting."""
    spans = [("MemcpyH2D", 0, 2), ("gemm_fusion_7", 5, product_us), ("loop_add_fusion", 5 + product_us - 1, 4)]
    return [Event(name=name, start_ns=1e3 * (begin_us + at), duration_ns=1e3 * long) for name, at, long in spans]


def test_the_median_step_is_added_up():
    begins, products = (0, 50, 150), (37, 87, 537)  # each step ends 5 us after its last kernel
    events = [event for begin, product in zip(begins, products, strict=True) for event in step(begin, product)]
    found = summary([*events, *step(700, 10)])
    assert found["step"] == 100
    assert (found["matrix products"], found[OTHERS], found["copies from the host"]) == (87, 4, 2)
    assert found[WAITING] == 3 + 5
    assert found["kernels"] == 3
