"""Messages of protobuf by the numbers of their fields: as much of that format as a sentencepiece model needs.

Source: https://protobuf.dev/programming-guides/encoding.
"""

import struct
from collections.abc import Iterator

Value = int | float | bytes


def read_message(data: bytes) -> dict[int, list[Value]]:
    """Values by field, in their order: numbers, floats of 32 and 64 bits, and what has a length (texts and messages) as bytes.

    Raises:
      ValueError: it is no message.
    """
    found: dict[int, list[Value]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    place = 0
    while place < len(data):
        key, place = _number(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _number(data, place)
        elif kind == 2:
            size, start = _number(data, place)
            place = start + size
            value = data[start:place]
        elif kind in _FLOATS:
            form, size = _FLOATS[kind]
            value, place = struct.unpack(form, data[place : place + size].ljust(size, b"\0"))[0], place + size
        else:
            raise ValueError(f"a field of kind {kind}")
        if place > len(data) or number == 0:
            raise ValueError("it ends within a field")
        yield number, value


_FLOATS = {1: ("<d", 8), 5: ("<f", 4)}


def _number(data: bytes, place: int) -> tuple[int, int]:
    """A number in groups of 7 bits, the lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("it ends within a number")
        value |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")
