"""Runs as values, for what is made of them."""

from muxjax.bench.records import AloneFit, Begin, End, Record, Run

ALONE = {"a": AloneFit(base_s=0.1, token_s=0.001, decode_s=0.01), "b": AloneFit(base_s=0.2, token_s=0.0, decode_s=0.02)}


def record(model: str = "a", at_s: float = 0.0, first_s: float = 0.2, gaps_s: tuple[float, ...] = (0.1, 0.1), **changed) -> Record:
    """One that was sent at once and came first_s after it, with a token an event, of 100 tokens before."""
    fields = {"seed": 0, "intended_s": at_s, "sent_s": at_s, "first_s": at_s + first_s, "end_s": at_s + first_s + sum(gaps_s)}
    fields |= {"prompt_tokens": 100, "output_tokens": len(gaps_s) + 1, "status": 200, "gaps_s": gaps_s}
    return Record(model=model, **(fields | changed))


def failed(model: str = "a", at_s: float = 0.0, error: str = "busy") -> Record:
    return record(model, at_s, first_s=0.0, gaps_s=(), error=error, output_tokens=0, status=503)


def run(*records: Record, ended_s: float = 10.0, complete: bool = True, late_s: float = 0.001, killed: bool = False, **begun) -> Run:
    fields = {"label": "x", "date": "2026-01-01T00:00:00+00:00", "path": "/completions", "load": {"rate": 2.0}, "seed": 0, "scale": 1.0}
    fields |= {"rate_rps": 2.0, "rates": {"a": 1.5, "b": 0.5}, "demanded": len(records), "alone": ALONE}
    end = End(ended_s=ended_s, complete=complete, late_s={"p50": 0.0, "p99": late_s, "p100": late_s})
    return Run(begin=Begin(**(fields | begun)), records=records, end=None if killed else end)
