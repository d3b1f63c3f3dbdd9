"""Who is admitted next of a model's waiting requests, when several tenants want it.

Every tenant has a counter of the service that it has had, over its weight, and the one with the least is next: a virtual token counter.
A tenant that comes back after a while begins where those that stayed are, so that nobody saves up for a flood.

Source: Sheng et al., Fairness in Serving Large Language Models (OSDI 2024, arXiv 2401.00588), algorithm 2; its prices too.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

PROMPT_PRICE = 1.0
"""Price of a token that is prefilled."""
OUTPUT_PRICE = 2.0
"""Price of a token that is generated."""


def take_turns(served: Sequence[float], costs: Sequence[Sequence[float]], count: int) -> list[int]:
    """Order of whose request comes first, second and so on: of `count` requests at most, indices of their tenants.

    Args:
      served: each tenant's counter; of equal ones the first tenant is next.
      costs: what admitting each waiting request adds to its tenant's counter, in the order of the tenant's line.
    """
    turns = [(counter, tenant) for tenant, counter in enumerate(served) if costs[tenant]]
    heapify(turns)
    order: list[int] = []
    lines = [deque(line) for line in costs]
    while turns and len(order) < count:
        counter, tenant = heappop(turns)
        order.append(tenant)
        counter += lines[tenant].popleft()
        if lines[tenant]:
            heappush(turns, (counter, tenant))
    return order


def lifted(counter: float, waiting: Iterable[float], last: float) -> float:
    """The counter of a tenant that begins to wait: no less than the least of those that wait already.

    Args:
      last: the counter of whoever was the last to wait, where nobody does.
    """
    return max(counter, min(waiting, default=last))
