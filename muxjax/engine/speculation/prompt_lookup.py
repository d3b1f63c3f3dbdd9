"""Prompt lookup: what stood behind a text's last tokens where they stood before, in prompt or answer, is likely to follow again."""

import numpy as np

from muxjax.types import Ints


def prompt_lookup(text: Ints, most: int, *, longest: int, shortest: int) -> Ints:
    """At most so many tokens that may follow a text; none where its end has not stood in it before.

    The longest end that has is looked for, up to `longest` tokens of it and of at least `shortest`: of its places the last with enough
    behind it, or else the one with most.

    Source: prompt lookup decoding (github.com/apoorvumang/prompt-lookup-decoding), the n-gram method of vLLM.
    """
    places, length = np.flatnonzero(text[:-1] == text[-1]), 1
    while length < min(longest, len(text) - 1):
        longer = places[(places >= length) & (text[places - length] == text[-1 - length])]
        if not len(longer):
            break
        places, length = longer, length + 1
    if length < shortest or not len(places):
        return text[:0]
    enough = places[places + most < len(text)]
    begin = (enough[-1] if len(enough) else places[0]) + 1
    return text[begin : begin + most]
