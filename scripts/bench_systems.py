"""How does muxjax serve beside other systems, and beside itself with a part taken out?

    python -m scripts.bench_systems QUESTION [QUESTION ...]     measures what is missing, and writes docs/results/QUESTION/
    python -m scripts.bench_systems QUESTION --tiny             its twin: the demo's models, on any machine
    python -m scripts.bench_systems QUESTION --page             only rewrites the page from the lines there are
    python -m scripts.bench_systems QUESTION --compile h200     only compiles what muxjax's servers run, for a chip that need not be here;
                                                                with the same --backends, --seconds and --seeds as it is measured with,
                                                                for fixed shares of the memory follow from the requests

A run that was ended early goes on where it was, as long as --work is kept.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from muxjax.bench.backends.running import device_name
from muxjax.errors import MuxError
from scripts import results
from scripts.experiments.measure import measured
from scripts.experiments.page import draw, page
from scripts.experiments.programs import compile_programs
from scripts.experiments.question import Question
from scripts.experiments.questions import BY_NAME
from scripts.experiments.section import write as write_section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="+", choices=BY_NAME, metavar="QUESTION", help=", ".join(BY_NAME))
    parser.add_argument("--backends", nargs="+", help="some, in place of the question's")
    parser.add_argument("--scales", nargs="+", type=float, help="multiples of the rates, in place of the question's")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--seconds", type=float, help="of requests, in place of the question's")
    parser.add_argument("--work", type=Path, default=Path("~/.cache/muxjax/experiments"), help="folder of what is being measured")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--compile", metavar="CHIP", help="only compiles muxjax's programs, into the folder where a start finds them")
    args = parser.parse_args()
    try:
        ask(args)
    except MuxError as error:
        raise SystemExit(f"bench_systems: {error}") from None


def ask(args: argparse.Namespace) -> None:
    """All questions, in one of the four ways."""
    for name in args.questions:
        question, work = chosen(BY_NAME[name], args), args.work.expanduser() / name
        if args.compile:
            if compile_programs(question, work, args.compile):
                raise SystemExit(1)
        elif args.tiny:
            with tempfile.TemporaryDirectory() as folder:
                tell(question.twin, list(measured(question.twin, Path(folder), results.host())), Path(folder))
        elif args.page:
            tell(question, results.read_runs(name), results.RESULTS / name)
        else:
            measure(question, work)


def chosen(question: Question, args: argparse.Namespace) -> Question:
    """The question with what the command line says in its place."""
    given = {"backends": args.backends, "scales": args.scales, "seeds": args.seeds, "duration_s": args.seconds}
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value is not None}
    return replace(question, **known)


def measure(question: Question, work: Path) -> None:
    """Writes the lines after each backend, and then the page."""
    work.mkdir(parents=True, exist_ok=True)
    device, lines = device_name() or results.host(), []
    for line in measured(question, work, device):
        lines.append(line)
        results.write_runs(question.name, "runs", merged(results.read_runs(question.name), lines))
    tell(question, results.read_runs(question.name), results.RESULTS / question.name)


def merged(before: Iterable[dict], lines: Iterable[dict]) -> list[dict]:
    """Old lines but for those that were measured again on such a device."""
    new = {_key(line): line for line in lines}
    return [line for line in before if _key(line) not in new] + list(new.values())


def tell(question: Question, lines: list[dict], folder: Path) -> None:
    """Prints the page, and writes it with its picture."""
    if not lines:
        print(f"{question.name}: nothing was measured")
        return
    picture = question.at_once is None and len({line["config"]["scale"] for line in lines}) > 1
    if picture:
        draw(question, lines, folder / "rates.png")
    text = page(question, lines) + ("\n\n![over the rate](rates.png)" if picture else "")
    (folder / "README.md").write_text(text.strip() + "\n")
    if folder.parent == results.RESULTS:
        write_section()
    print(text)


def _key(line: dict) -> str:
    config = line["config"]
    return json.dumps([line["device"], config["backend"], config["scale"], config["duration_s"], line["seed"]])


if __name__ == "__main__":
    main()
