"""Do several real-size models answer at once through one HTTP endpoint, from one arena?

Random weights of published shapes; a number of concurrent streams a model; every stream must bring exactly the tokens it asked for.
Writes docs/results/several-models-one-device/.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import jax

from muxjax.bench import at_once
from muxjax.engine.options import ModelOptions, UnitOptions
from muxjax.server.build import build_service
from muxjax.server.config import HttpOptions
from muxjax.server.http.serve import listening
from muxjax.server.service import Service
from muxjax.specs import published
from muxjax.specs.dummy import write_dummy_models
from muxjax.units import parse_bytes
from scripts import results

QUESTION = "several-models-one-device"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", choices=sorted(published.BY_NAME))
    parser.add_argument("--streams", type=int, default=8, help="concurrent streams of each model")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--kv-cache-size")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = unit_options(args, Path(folder))
        started = time.perf_counter()
        lines: list[str] = []
        service = build_service(options, report=lines.append)
        start_s = time.perf_counter() - started
        outcome = asyncio.run(serve_and_ask(service, args))
    values = {"start_s": start_s, "report": lines, **outcome}
    record = results.run_record(device=jax.devices()[0].device_kind, config=vars(args), seed=0, values=values)
    results.write_runs(QUESTION, "runs", [record])
    results.write_readme(QUESTION, page(record))
    print(page(record))
    if faults := wrong(record):
        raise SystemExit(f"failed: {faults}")


def wrong(record: dict) -> str:
    """What is not as it should be: streams of another length, or blocks that were not given back."""
    values, wanted = record["values"], record["config"]["output_tokens"]
    lengths = [stream["tokens"] for streams in values["streams"].values() for stream in streams if stream["tokens"] != wanted]
    lost = values["total_blocks"] - values["free_blocks"]
    return ", ".join([f"a stream of {tokens} tokens" for tokens in lengths] + [f"{lost} head blocks lost"] * bool(lost))


def page(record: dict) -> str:
    """The answer for people."""
    config, values = record["config"], record["values"]
    rows = [
        (name, len(found), *(f"{f(s[key] for s in found):.2f}" for key in ("first_s", "end_s") for f in (min, max)))
        for name, found in values["streams"].items()
    ]
    head = ("model", "streams", "first token, soonest s", "latest s", "last token, soonest s", "latest s")
    command = f"python -m scripts.check_serving {' '.join(config['models'])} --streams {config['streams']}"
    return f"""# Do several real-size models answer at once, through one endpoint, from one arena?

Random weights of the published shapes; {config["streams"]} concurrent HTTP streams of each model, {config["prompt_tokens"]} tokens in and
{config["output_tokens"]} out. Command: `{command}` on {record["device"]}, JAX {record["versions"]["jax"]}, commit {record["commit"]}.

**{"No: " + wrong(record) if wrong(record) else "Yes: every stream brought exactly its tokens, and every head block came back."}**

{results.table(head, rows)}

Loading, compiling and warming up took {values["start_s"]:.0f} s. The start-up report:

```
{chr(10).join(values["report"])}
```

This shows that the path is whole; how fast it is, `docs/results/serving-speed/` tells."""


def unit_options(args: argparse.Namespace, folder: Path) -> UnitOptions:
    """The models with dummy weights."""
    paths = write_dummy_models(folder, {name: published.BY_NAME[name] for name in args.models})
    max_len = args.prompt_tokens + args.output_tokens
    models = [
        ModelOptions(name=name, path=path, load_format="dummy", max_num_seqs=args.streams, max_model_len=max_len)
        for name, path in paths.items()
    ]
    cache_bytes = parse_bytes(args.kv_cache_size, field="--kv-cache-size") if args.kv_cache_size else None
    return UnitOptions(models=tuple(models), kv_cache_bytes=cache_bytes, max_num_batched_tokens=512)


async def serve_and_ask(service: Service, args: argparse.Namespace) -> dict:
    load = at_once.StreamLoad(streams=args.streams, prompt_tokens=args.prompt_tokens, output_tokens=args.output_tokens)
    async with listening(service, HttpOptions(port=0)) as address:
        answers = await at_once.run_load(address, args.models, load)
        stats = service.stats()
    streams = {name: [answer.values() for answer in of_model] for name, of_model in answers.items()}
    return {"streams": streams, "free_blocks": stats.free_blocks, "total_blocks": stats.total_blocks, "block_bytes": stats.block_bytes}


if __name__ == "__main__":
    main()
