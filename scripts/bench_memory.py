"""How much memory does a server of three toy models hold?

    python -m scripts.bench_memory                  # this tree; --tree FOLDER for another one, to compare with

`muxjax serve` with the demo's models on a CPU and default options, with no program kept and then with all of them: resident memory
(/proc/PID/status) every quarter of a second until every program is there, and after a chat to each model. Writes docs/results/memory/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from muxjax.units import show_bytes
from scripts import results

QUESTION = "memory"
MODELS = ("farm", "forest", "sea")
CASES = ("no program kept", "all programs kept")
LOOK_S, QUIET_S, MOST_S = 0.25, 3.0, 300.0


def measured(tree: Path, programs: str, port: int) -> dict[str, int]:
    """Bytes of a server of that tree: at most, at rest with all programs and after chats, and at most of the processes that compile."""
    folders = [f"{name}={tree / 'muxjax/demo/data' / name}" for name in MODELS]
    command = [sys.executable, "-m", "muxjax", "serve", *folders, "--port", str(port), "--compilation-cache-dir", programs]
    environment = os.environ | {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            seen = list(_until_complete(server, port))
            rest = resident(server.pid)
            for name in MODELS:
                _ask(port, "/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "Who are you?"}]})
            after = resident(server.pid)
        finally:
            server.terminate()
    most = {f"most_{name}_bytes": max(sample[name] for sample in seen) for name in ("server", "compiling")}
    return most | {"rest_bytes": rest["total"], "after_chats_bytes": after["total"], "anonymous_bytes": after["anonymous"]}


def resident(pid: int) -> dict[str, int]:
    """Resident bytes of a process: in all, and without pages of files; 0 of one that has ended."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    except OSError:
        lines = {}
    return {name: int(lines.get(key, "0").split()[0]) * 1024 for name, key in (("total", "VmRSS"), ("anonymous", "RssAnon"))}


def _until_complete(server: subprocess.Popen, port: int) -> Iterator[dict[str, int]]:
    """Looks at the server and its children until all programs are there and nothing has compiled for a while.

    Raises:
      RuntimeError: it ends, or takes too long.
    """
    until_s = time.monotonic() + MOST_S
    quiet_s = None
    while quiet_s is None or time.monotonic() - quiet_s < QUIET_S:
        if server.poll() is not None or time.monotonic() > until_s:
            raise RuntimeError(f"the server has not come: {server.returncode}")
        children = [resident(pid)["total"] for pid in _children(server.pid)]
        yield {"server": resident(server.pid)["total"], "compiling": sum(children)}
        quiet_s = (quiet_s or time.monotonic()) if _complete(port) else None
        time.sleep(LOOK_S)


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def _complete(port: int) -> bool:
    try:
        models = _ask(port, "/server_info")["models"]
    except OSError:
        return False
    return all(model["programs"]["ready"] == model["programs"]["all"] for model in models)


def _ask(port: int, path: str, body: Mapping[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def page(runs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [run["config"]["tree"], run["config"]["case"]]
        + [show_bytes(run["values"][f"{name}_bytes"]) for name in ("most_server", "rest", "after_chats", "anonymous", "most_compiling")]
        for run in runs
    ]
    head = ["tree", "case", "at most", "at rest", "after a chat to each", "of it no file's pages", "compiling beside it, at most"]
    last = [run["values"]["after_chats_bytes"] for run in runs if run["config"]["tree"] == "this"]
    return f"""# Memory of a server of toy models

**Question.** {(__doc__ or "").splitlines()[0]}

**Command.** `python -m scripts.bench_memory`

**Answer.** {show_bytes(max(last))}, of which the models are less than 3 MiB. Device: {runs[-1]["device"]}, {results.host()}.

{results.table(head, rows)}

What it was, by /proc/PID/smaps of the tree before:

- **1 GiB was the cache**, to every page of which JAX had written zeros. Pages of zeros are now given back to the system as soon as they are
  made (`device/host_memory.py`, by madvise), and taken again as head blocks are written: memory follows use. For a moment of the start
  they are all there, which is most of "at most".
- **Hundreds of MiB were freed memory** that glibc keeps, in an arena for each thread that had compiled or loaded programs. They are trimmed
  when a start is over, and when the programs that follow it are there (`malloc_trim`).
- The rest is JAX, Python and the programs; 0.25 GiB are pages of libraries' files, which the system may drop.

The process that compiles what follows a start ends with its work. Where memory is short, `muxjax compile` beforehand does without it.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, help="a tree before, which is measured first")
    parser.add_argument("--port", type=int, default=8231)
    arguments = parser.parse_args()
    trees = {"before": arguments.tree.resolve()} if arguments.tree else {}
    runs = []
    for name, tree in (trees | {"this": results.ROOT}).items():
        with tempfile.TemporaryDirectory() as programs:
            for case in CASES:
                config = {"tree": name, "case": case, "models": MODELS}
                values = measured(tree, programs, arguments.port)
                runs.append(results.run_record(device="cpu", config=config, seed=0, values=values))
                print(json.dumps(runs[-1]["config"] | values), flush=True)
    print(results.write_runs(QUESTION, "runs", runs))
    results.write_readme(QUESTION, page(runs))


if __name__ == "__main__":
    main()
