"""Can one client's requests stop the others' clock?

    python -m scripts.clocks.run                             # on this machine's processor, about ten minutes
    python -m scripts.clocks.run --only grammar --keep-nothing

A server of three small models in a process of its own. One client sends the dearest requests that it may, one kind after another, while
a second one polls /health and a third reads streams of another model. Writes docs/results/clocks/.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scripts import results
from scripts.clocks.attacks import ATTACKS
from scripts.clocks.measure import measure
from scripts.clocks.page import line, page
from scripts.clocks.server import serving

QUESTION = "clocks"
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2, help="for which each attack is sent again and again")
    parser.add_argument("--max-body-mib", type=int, nargs="*", default=[8, 32], help="largest bodies of a server; 8 is its default")
    parser.add_argument("--only", default="", help="attacks whose names have this in them")
    parser.add_argument("--keep-nothing", action="store_true", help="print the numbers, and write none")
    args = parser.parse_args()
    records = [record for mib in args.max_body_mib for record in _records(mib, args.seconds, args.only)]
    print(page(records))
    if not args.keep_nothing:
        results.write_runs(QUESTION, "runs", records)
        results.write_readme(QUESTION, page(records))


def _records(mib: int, seconds: float, only: str) -> Iterator[dict]:
    size = mib * MIB
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), body_bytes=size) as server:
        measure(server, ATTACKS[0], body_bytes=size, seconds=2)  # what first answers bring is nobody's
        for attack in (attack for attack in ATTACKS if only in attack.name):
            values = measure(server, attack, body_bytes=size, seconds=seconds).values()
            odd = "" if values["statuses"] in ((), (attack.status,)) else values["told"]
            print(*line(values), values["statuses"], odd, sep=" | ", flush=True)
            values["load_average"] = os.getloadavg()[0]
            config = {"max_body_mib": mib, "seconds": seconds}
            yield results.run_record(device=results.host(), config=config, seed=0, values=values)


if __name__ == "__main__":
    main()
