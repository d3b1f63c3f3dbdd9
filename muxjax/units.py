"""Bytes, counts, times and tables for people."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from muxjax.errors import ConfigError, shown

_BYTES = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600}
MOST_BYTES = 2**50


def parse_bytes(text: str | int, *, field: str) -> int:
    """Bytes of a number such as 4096, "512MiB" or "16G" (powers of 1024).

    Raises:
      ConfigError: not such a number, or not over 0, to MOST_BYTES.
    """
    match = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([bkmgt]?)(?:i?b)?\s*", str(text), re.IGNORECASE | re.ASCII)
    count = int(float(match[1]) * _BYTES[match[2].lower()]) if match else 0
    if not 0 < count <= MOST_BYTES:
        raise ConfigError(f"{field} must be a size such as 512MiB or 16GiB, up to {show_bytes(MOST_BYTES)}, got {shown(text)}", field=field)
    return count


def parse_count(text: str, *, field: str) -> int | None:
    """The number of a text with a letter behind it, which vLLM's users write: of 8k 8000, of 8K 8192, of 25.6k 25600; None of any other.

    Raises:
      ConfigError: a fraction of a power of 1024.
    """
    match = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{1,20})?)([kmgt])\s*", text, re.IGNORECASE | re.ASCII)
    if match is None:
        return None
    number, letter = match.groups()
    if letter.isupper() and "." in number:
        raise ConfigError(
            f"{field} must be a whole number before {letter}, of powers of 1024: did you mean {number}{letter.lower()}?", field=field
        )
    return int(Fraction(number) * (1024 if letter.isupper() else 1000) ** (" kmgt".index(letter.lower())))


def parse_s(text: str) -> float | None:
    """Seconds of a text such as "90s", "10m" or "1.5h"; None of any other."""
    match = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([smh])\s*", text, re.IGNORECASE | re.ASCII)
    return float(match[1]) * _SECONDS[match[2].lower()] if match else None


def show_bytes(count: float) -> str:
    """Such as "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def show_count(count: float) -> str:
    """Such as "8.03 B" parameters, or "12.3 k" tokens."""
    for unit in ("", " k", " M", " B"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} T"


def show_s(seconds: float) -> str:
    """Such as "4.52 ms" or "1.2 s"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def show_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Each row in a line, its cells as wide as the widest of their column."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
