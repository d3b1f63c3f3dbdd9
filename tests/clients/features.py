"""What a client can do with the server, found out by doing it; runs in the clients' own environment, without muxjax."""

import json
import sys
import traceback
from collections.abc import Callable

MODEL = "talks"
"""Of the server: says TEXT; calls `weather` where it may, and any other tool with PERSON; answers in PERSON where a form is asked for."""
TEXT, SUN = "Hello from muxjax.", "It is sunny in Rome."
PERSON = {"name": "Ada", "age": 36}
ASK = "How is the weather in Rome?"

_features: dict[str, Callable[[str], None]] = {}


def feature(name: str) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    """Names what a function does with the server at a URL; it raises where that does not come out right."""

    def named(function: Callable[[str], None]) -> Callable[[str], None]:
        _features[name] = function
        return function

    return named


def same(got: object, expected: object) -> None:
    if got != expected:
        raise AssertionError(f"got {got!r} in place of {expected!r}")


def drive() -> None:
    """Tells what came of each feature, as JSON: an empty text where all was right."""
    found = {}
    for name, function in _features.items():
        try:
            function(sys.argv[1])
            found[name] = ""
        except Exception as error:
            traceback.print_exc()
            found[name] = f"{type(error).__name__}: {error}"[:500]
    print(json.dumps(found))
