"""A line that comes again and again is told some times, then counted."""

import io
import logging

from muxjax.server.telemetry.flood import Flood


def logger_of(now: list[float]) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(Flood(most=3, within_s=10, clock=lambda: now[0]))
    logger = logging.Logger("flooded")
    logger.addHandler(handler)
    return logger, stream


def test_a_flood_is_cut_short_and_counted():
    now = [0.0]
    logger, stream = logger_of(now)

    def warn(number: int) -> None:
        logger.warning("no file for connection %d", number)

    for number in range(1000):
        warn(number)
    now[0] = 11.0
    warn(1000)
    assert stream.getvalue().splitlines() == [
        *(f"no file for connection {number}" for number in range(3)),
        "no file for connection 1000 (997 lines like this one were left out)",
    ]


def test_other_lines_and_what_is_no_warning_come_through():
    logger, stream = logger_of([0.0])
    for _ in range(50):
        logger.warning("one")
        logger.info("answered")
    logger.error("another")
    lines = stream.getvalue().splitlines()
    assert (lines.count("one"), lines.count("answered"), lines.count("another")) == (3, 50, 1)
