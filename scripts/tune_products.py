"""Has XLA choose kernels for the products of LLaMA 3's 8B, 3B and 1B: tries them on a GPU, for the most useful steps first.

    python -m scripts.tune_products --programs FOLDER --seconds 500 --out tuned-h200.zip

Writes all choices that there are, those that come with the package among them, as the archive of `muxjax/device/programs`; anew after
each step, so that nothing is lost where time runs out. The folder keeps choices and programs, from which another call goes on.
"""

import argparse
import os
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from muxjax.specs.dummy import write_dummy_models
from muxjax.specs.published import BY_NAME
from muxjax.whole_file import replacing
from scripts.colocation import ways

ORDER = (
    *(("8b", rows) for rows in (32, 16, 8)),
    *((name, 128) for name in ("3b", "1b")),
    *((name, 96) for name in ("8b", "3b", "1b")),
    ("3b", 16),
    *((name, 24) for name in ("8b", "3b", "1b")),
)
"""Models and rows that decode, the most useful first; others come last."""
_DATE = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, required=True, help="folder of programs and choices")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no other step is begun")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.zip")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA calls each choice that is still to be made an error
    with tempfile.TemporaryDirectory() as folder:
        tune(Path(folder), args.programs, args.seconds, args.out)


def tune(scratch: Path, programs: Path, seconds: float, out: Path) -> None:
    """Tunes one step after another, and archives the choices after each."""
    from muxjax.device.loader import ModelLoader
    from muxjax.device.programs.filling import Filling
    from muxjax.device.programs.sources import StepSource
    from muxjax.launch.compile_ahead import needed

    began_s = last_s = time.monotonic()
    paths = write_dummy_models(scratch, {name: BY_NAME[shape] for name, shape in ways.MODELS.items()})
    filling = Filling.of("", 1, programs)
    options = ways.unit(paths, programs=programs, more=ways.WAYS["mux"])
    names = {BY_NAME[shape].params: name for name, shape in ways.MODELS.items()}
    steps = {
        (names[source.spec.params], source.shape.rows): source
        for source, _ in needed(options, ModelLoader.on(filling.devices, options))
        if isinstance(source, StepSource) and source.tuned
    }
    for source, tried in filling.tune(steps[key] for key in useful_first(list(steps))):
        now_s = time.monotonic()
        told = "tuned" if tried else "was tuned already"
        print(f"{names[source.spec.params]} {source.shape.rows} rows: {told}, {now_s - last_s:.1f} s", flush=True)
        archive(programs / "tuning", out)
        last_s = now_s
        if now_s - began_s > seconds:
            break


def useful_first(steps: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """In the order of ORDER."""
    return sorted(steps, key=lambda step: ORDER.index(step) if step in ORDER else len(ORDER))


def archive(choices: Path, out: Path) -> None:
    """All choices in one file, which is the same wherever and whenever it is made of the same ones."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as part, zipfile.ZipFile(part, "w") as file:
        for path in sorted(choices.glob("*/*.pb")):
            entry = zipfile.ZipInfo(path.relative_to(choices).as_posix(), _DATE)
            entry.external_attr = 0o100644 << 16
            file.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
