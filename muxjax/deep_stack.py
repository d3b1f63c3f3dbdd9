"""Calls of native code that goes as deep as its input says: past the end of a thread's stack it would end the process."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

_BYTES_PER_CHARACTER = 1024
"""Over twice what llguidance was seen to need, for chains of definitions and rules in the fewest characters."""
_SHALLOW = 2048
"""Characters for which any thread's own stack is enough."""
_starting = threading.Lock()


def on_deep_stack(call: Callable[[], T], characters: int) -> T:
    """What the call returns, or raises. Its input has so many characters, for which it has the stack.

    Memory is taken only as deep as the call goes.
    """
    if characters <= _SHALLOW:
        return call()
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="muxjax-deep-stack", daemon=True)
    with _starting:
        usual = threading.stack_size(characters * _BYTES_PER_CHARACTER)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    return answer.result()
