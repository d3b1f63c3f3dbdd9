"""The page of `scripts.bench_server`, from its lines."""

from scripts import results

GOAL_PER_S, CALM_PER_S = 15_000, 5_000
"""Tokens; at the lower rate nothing queues, so that what workers add can be seen."""
WORKERS_GOAL_PER_S, WORKER_GOAL_S = 40_000, 0.5e-3
STEADY = 20
"""Tokens of a stream after which all have begun: what taking requests costs is no cost of a token."""


def summary(records: list[dict]) -> str:
    """A row a run."""
    processor = "tokens a second of the server's processor time"
    head = ("tokens are made", "by", "tokens/s", "added delay p50", "p90", "p99", "most", "of it, to the front p50", "p99", processor)
    return results.table(head, [_row(record) for record in records])


def _row(record: dict) -> tuple:
    values = record["values"]
    delays_ms = [f"{values['delay_s'][at] * 1e3:.2f} ms" for at in ("p50", "p90", "p99", "p100")]
    return (
        record["config"]["offered"],
        _maker(record["config"].get("workers", 0)),
        f"{values['tokens_per_s']:,.0f}",
        *delays_ms,
        *(_hop(values, at) for at in ("p50", "p99")),
        f"{values['tokens'] / values['server_processor_s']:,.0f}",
    )


def _hop(values: dict, at: str) -> str:
    """From a worker to the front; nothing of tokens that the server itself makes."""
    seconds = values.get("hop_s", {}).get(at)
    return f"{seconds * 1e3:.2f} ms" if seconds else "-"


def _maker(workers: int) -> str:
    return f"{workers} worker{'s' * (workers > 1)}" if workers else "the server"


README = """
# How many tokens a second get through the server over HTTP?

{streams:,} streams at once of {tokens} tokens each, from a fake engine that makes a token for every stream and turn at no cost. Tokenizer,
service, HTTP and events are the real ones, the client is another process. Goal: {goal:,} tokens/s on 2 cores, none lost or doubled.
Made by `python -m scripts.bench_server`; the runs are in [runs.jsonl](runs.jsonl). Device: {device}.

{summary}

**{answer}** Every stream's text was exactly that of its tokens; tokens that came while others were written share an event, so a server that
is behind catches up. The added delay of a token is the time from its making to the arrival of
its event at the client. All streams get their tokens in the same moment, so half a turn's tokens wait for the other half: at {goal:,}
tokens/s a turn is {turn_ms:.0f} ms. The machine's load average was {load:.1f}: what else ran on it took its share of the seconds, but not
of the server's processor time, which counts the fake engine's as well.
"""

BY_WORKERS = """
## By worker processes

{streams:,} streams of {tokens} tokens, which worker processes make in place of the server's own; server, workers and client together have
{cores} cores, and the processors' time is of server and workers. Goals: {goal:,} tokens/s, and 0.5 ms more a token for 99 of 100. Made by
`python -m scripts.bench_server --streams {streams} --cores {cores}`; device: {device}.

{summary}

**{most:,.0f} tokens/s by workers: the goal is {verdict}. At {calm:,} tokens/s, where nothing queues, a token is with
the front {added50} after its turn has left the worker, {added99} for 99 of 100: the goal is {added}.** That is a message of
{streams} tokens, which is made, sent, read and entered; the first {steady} tokens of each stream, while others begin, are left out.
"""


def page(records: list[dict]) -> str:
    """The README of the results."""
    alone = [record for record in records if record["config"].get("cores") is None]
    by_workers = [record for record in records if record not in alone]
    return "".join(make(own) for make, own in ((_page_alone, alone), (_page_workers, by_workers)) if own)


def _page_workers(records: list[dict]) -> str:
    by = {(record["config"]["offered"], record["config"]["workers"]): record["values"] for record in records}
    calm, config = f"{CALM_PER_S:,} a second", records[0]["config"]
    most = max(values["tokens_per_s"] for (_, workers), values in by.items() if workers)
    return BY_WORKERS.format(
        streams=config["streams"],
        tokens=config["tokens"],
        cores=config["cores"],
        goal=WORKERS_GOAL_PER_S,
        device=records[0]["device"],
        summary=summary(records),
        most=most,
        verdict="met" if most >= WORKERS_GOAL_PER_S else "missed",
        calm=CALM_PER_S,
        steady=STEADY,
        added50=_hop(by[calm, 1], "p50"),
        added99=_hop(by[calm, 1], "p99"),
        added="met" if by[calm, 1]["hop_s"]["p99"] <= WORKER_GOAL_S else "missed",
    )


def _page_alone(records: list[dict]) -> str:
    best, config = max(record["values"]["tokens_per_s"] for record in records), records[0]["config"]
    return README.format(
        streams=config["streams"],
        tokens=config["tokens"],
        goal=GOAL_PER_S,
        device=records[0]["device"],
        summary=summary(records),
        answer=f"{best:,.0f} tokens/s: the goal is {'met' if best >= GOAL_PER_S else 'missed'}.",
        turn_ms=1e3 * config["streams"] / GOAL_PER_S,
        load=max(record["values"]["load_average"] for record in records),
    )
