"""What do three models of unequal popularity on one GPU give their users: in turns, and in lanes of their own?

    python -m scripts.bench_colocation                                  # on a GPU: every way, every load
    python -m scripts.bench_colocation --ways lanes --loads x1,x3       # some
    python -m scripts.bench_colocation --loads x1,highest               # and the highest rate that is served within target
    python -m scripts.bench_colocation --tiny                           # toy models, anywhere: whether it runs, no more
    python -m scripts.bench_colocation --page                           # only rewrites the page from the lines there are

LLaMA 3's 8B, 3B and 1B with random weights, in the engine's own process, without HTTP. Each way is a process of its own that serves one
load after another; latencies count from the moment at which a request was due. Writes docs/results/colocation/.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from scripts import results
from scripts.colocation.page import page
from scripts.colocation.ways import HIGHEST, LOADS, WAYS, Case

QUESTION, ALL_LOADS = "colocation", (*LOADS, HIGHEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", type=names_of(WAYS), default=tuple(WAYS), help=", ".join(WAYS))
    parser.add_argument("--loads", type=names_of(ALL_LOADS), default=ALL_LOADS, help=", ".join(ALL_LOADS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", default="~/.cache/muxjax/xla", help="folder where compiled programs are kept")
    parser.add_argument("--name", default="runs", help="of the file of lines; what the last one by name holds is summed up (%(default)s)")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    if not args.page:
        with tempfile.TemporaryDirectory() as folder:
            programs = str(Path(folder, "programs")) if args.tiny else args.programs
            cases = [Case(way=way, loads=args.loads, seed=args.seed, programs=programs, tiny=args.tiny) for way in args.ways]
            records = []
            for record in itertools.chain.from_iterable(map(run, cases)):
                records.append(record)
                if not args.tiny:
                    results.write_runs(QUESTION, args.name, records)
        if args.tiny:
            print(page([records]))
            return
    text = page(results.read_files(QUESTION))
    results.write_readme(QUESTION, text)
    print(text)


def names_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of some of the names, with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}, got {', '.join(unknown)}")
        return names

    return parse


def run(case: Case) -> Iterator[dict]:
    """The records of one way, a load each as it ends, by a process of its own."""
    command = [sys.executable, "-m", "scripts.colocation.child", json.dumps(case.values())]
    with subprocess.Popen(command, cwd=results.ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        print(f"{case.way} ended with code {process.returncode}", file=sys.stderr)


if __name__ == "__main__":
    main()
