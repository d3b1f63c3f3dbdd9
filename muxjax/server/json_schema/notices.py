"""What is left out of clients' schemas, in the log: each name once, and no more names than a log should have of clients."""

import logging

_MOST_NAMES = 100
_LONGEST_NAME = 64
_log = logging.getLogger(__name__)
_told: set[str] = set()


def tell_once(name: str, message: str) -> None:
    """Warns of a keyword or format, `%r` in the message."""
    if name not in _told and len(name) <= _LONGEST_NAME and len(_told) < _MOST_NAMES:
        _told.add(name)
        _log.warning(message, name)
