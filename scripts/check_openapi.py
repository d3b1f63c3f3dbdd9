"""Does the server bear 2,000 requests made from OpenAI's description of its interface, right and wrong ones, without a fault of its own?

    python -m scripts.check_openapi

Runs tests/server/http/test_openapi.py with so many cases, chosen by chance, and counts statuses. Writes docs/results/openapi/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import schemathesis

from scripts import results

QUESTION = "openapi"
TEST = "tests/server/http/test_openapi.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--keep-nothing", action="store_true", help="print the page, and write none")
    args = parser.parse_args()
    config = {"cases": args.cases, "schemathesis": schemathesis.__version__}
    record = results.run_record(device=results.host(), config=config, seed=0, values=run(args.cases))
    print(page(record))
    if not args.keep_nothing:
        results.write_runs(QUESTION, "runs", [record])
        results.write_readme(QUESTION, page(record))
    if not record["values"]["passed"]:
        raise SystemExit("a check failed")


def run(cases: int) -> dict:
    """Statuses by operation, and whether every check held."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "counts.jsonl")
        environment = os.environ | {"MUXJAX_OPENAPI_CASES": str(cases), "MUXJAX_OPENAPI_COUNTS": str(counts)}
        ran = subprocess.run([sys.executable, "-m", "pytest", "-q", TEST], cwd=results.ROOT, env=environment, check=False)
        lines = Counter(tuple(json.loads(line)) for line in counts.read_text().splitlines())
    return {
        "passed": ran.returncode == 0,
        "requests": lines.total(),
        "statuses": [[operation, status, count] for (operation, status), count in sorted(lines.items())],
    }


README = """
# Does the server bear requests made from OpenAI's description of its interface?

[schemathesis](https://schemathesis.io) {schemathesis} makes requests, right and wrong ones, from
[the part of OpenAI's interface that muxjax serves](../../../tests/server/http/openapi.yaml), and holds every answer against it: status,
content type, and every field. An engine of the tests makes the tokens. Made by `python -m scripts.check_openapi`; the counts are in
[runs.jsonl](runs.jsonl).

{table}

**{requests:,} requests, {errors} of them answered as an error of the server; {checks}.**
"""


def page(record: dict) -> str:
    """The README of the results."""
    values = record["values"]
    return README.format(
        schemathesis=record["config"]["schemathesis"],
        table=results.table(("operation", "status", "requests"), values["statuses"]),
        requests=values["requests"],
        errors=sum(count for _, status, count in values["statuses"] if status >= 500),
        checks="every check held" if values["passed"] else "a check failed",
    )


if __name__ == "__main__":
    main()
