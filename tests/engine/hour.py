"""An hour of virtual time of the real unit, loop and policies, for clients who ask again as soon as they are answered."""

import random
from dataclasses import dataclass, replace
from math import inf

from muxjax.cost.chip import A100, MeshSpec
from muxjax.engine.loop import turn
from muxjax.model_spec import ModelSpec
from muxjax.scheduler.view import Policy
from muxjax.simulate.executor import SimulatedClock, SimulatedExecutor, step_costs
from muxjax.simulate.sharing import SPATIAL
from muxjax.simulate.unit import Hosted, Machine
from muxjax.types import Request, Sampling

HOUR_S = 3600.0
SLOW = replace(A100, flops_per_s=A100.flops_per_s / 60, memory_bytes_per_s=A100.memory_bytes_per_s / 60)
"""Steps take long, so that an hour has few of them."""
SPEC = ModelSpec(
    vocab=32000, width=4096, layers=32, heads=32, kv_heads=32, head_dim=128, ffn=11008, max_len=2048, windows=(None,) * 32
)  # LLaMA-7B's


@dataclass(frozen=True, kw_only=True)
class Client:
    """Keeps so many requests unfinished, or else sends one every so often."""

    name: str
    model: str = "a"
    tenant: str = ""
    line: str = ""
    weight: float = 1.0
    priority: int = 0
    keeps: int = 0
    every_s: float = inf


@dataclass
class Account:
    """What came of a client's requests: the seconds each waited for its first token, those unanswered at the end included."""

    client: Client
    waits_s: list[float]
    answers: int = 0
    tokens: int = 0
    unfinished: int = 0


def machine(weights: dict[str, float], *, slots: int = 16, cache_blocks: int = 60_000) -> Machine:
    hosted = {name: Hosted(spec=SPEC, mesh=MeshSpec(chip=SLOW), rate_rps=1.0, weight=weight) for name, weight in weights.items()}
    return Machine(hosted=hosted, cache_bytes=cache_blocks * 16 * 1024, slots=slots)


def hour(on: Machine, policy: Policy, clients: list[Client], seed: int = 0) -> dict[str, Account]:
    """Accounts by the clients' names."""
    unit, clock, draw = on.unit(), SimulatedClock(), random.Random(seed)
    executor = SimulatedExecutor(step_costs({name: (one.spec, one.mesh) for name, one in on.hosted.items()}), clock, SPATIAL)
    accounts = {client.name: Account(client, []) for client in clients}
    open_: dict[str, tuple[Account, Request]] = {}
    unseen: set[str] = set()
    due_s = {client.name: draw.uniform(0, 60) if client.every_s < inf else inf for client in clients}

    def ask(account: Account) -> None:
        client = account.client
        request = Request(
            id=f"{len(account.waits_s) + len(unseen):06}-{client.name}-{draw.random()}",
            model=client.model,
            prompt=(1,) * draw.randint(20, 400),
            sampling=Sampling(max_tokens=draw.randint(10, 100)),
            arrival_s=clock.now_s(),
            priority=client.priority,
            tenant=client.tenant,
            client=client.line,
            weight=client.weight,
        )
        unit.submit(request)
        open_[request.id] = account, request
        unseen.add(request.id)
        account.unfinished += 1

    while clock.now_s() < HOUR_S:
        for name, account in accounts.items():
            while account.unfinished < account.client.keeps:
                ask(account)
            if due_s[name] <= clock.now_s():
                due_s[name] += account.client.every_s
                ask(account)
        if unit.idle:
            clock.advance_to(min(due_s.values()))
            continue
        for output in turn(unit, policy, executor, clock):
            account, request = open_[output.request_id]
            if output.request_id in unseen:
                unseen.remove(output.request_id)
                account.waits_s.append(output.at_s - request.arrival_s)
            if output.finish:
                account.answers, account.unfinished = account.answers + 1, account.unfinished - 1
                account.tokens += len(request.prompt) + 2 * request.sampling.max_tokens
                del open_[output.request_id]
    for request_id in unseen:
        account, request = open_[request_id]
        account.waits_s.append(clock.now_s() - request.arrival_s)
    return accounts
