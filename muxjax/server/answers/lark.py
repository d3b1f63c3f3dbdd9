"""Grammars in Lark, as llguidance reads them."""

import json
from collections.abc import Iterable


def one_of(texts: Iterable[str]) -> str:
    """Any of the texts."""
    return " | ".join(json.dumps(text) for text in texts)
