"""Bad words: sequences of tokens that an answer must not have, found by the tokens before the one that would complete them."""

import weakref
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from muxjax.types import Ints

_ROOT = 0


class BadWords:
    """Forbidden sequences of one request, as a trie of what goes before each last token, read backwards.

    The work for a token depends on the length of the longest word, not on their number.

    Attributes:
      always: tokens that are a word of their own.
      tied: what else is forbidden depends on the tokens before.
    """

    def __init__(self, words: Sequence[tuple[int, ...]]):
        self._children: dict[tuple[int, int], int] = {}  # by node and token
        last: dict[int, list[int]] = defaultdict(list)
        for *begin, end in words:
            last[self._node(begin)].append(end)
        self.always = _tokens(last.pop(_ROOT, []))
        self._last = {node: _tokens(ends) for node, ends in last.items()}
        self._longest = max((len(word) - 1 for word in words), default=0)
        self.tied = bool(self._last)

    @classmethod
    def of(cls, words: tuple[tuple[int, ...], ...]) -> "BadWords":
        """Those of a request, made unless somebody holds them: the choices of one answer share them. From any thread."""
        bad_words = _held.get(words)
        if bad_words is None:
            bad_words = _held[words] = cls(words)
        return bad_words

    def completing(self, text: Ints) -> Ints:
        """Tokens that would complete a word of two or more behind this text."""
        found: list[Ints] = []
        node = _ROOT
        for token in text[max(len(text) - self._longest, 0) :][::-1].tolist() if self.tied else ():
            child = self._children.get((node, token))
            if child is None:
                break
            node = child
            if node in self._last:
                found.append(self._last[node])
        return np.concatenate(found) if found else _NONE

    def _node(self, begin: Sequence[int]) -> int:
        node = _ROOT
        for token in reversed(begin):
            node = self._children.setdefault((node, token), len(self._children) + 1)
        return node


def _tokens(tokens: Sequence[int]) -> Ints:
    return np.array(sorted(set(tokens)), np.int32)


_NONE = _tokens([])
_held: weakref.WeakValueDictionary[tuple[tuple[int, ...], ...], BadWords] = weakref.WeakValueDictionary()
