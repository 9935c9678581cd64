"""The log: what cannot be written is dropped, and stops nothing."""

import errno
from io import StringIO
from typing import Any

import structlog

from node.log import LogStream


class FullDisk(StringIO):
    """Takes nothing."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def logger_to(stream: StringIO) -> structlog.PrintLogger:
    log_stream: Any = LogStream(stream)
    return structlog.PrintLogger(log_stream)


def test_a_line_that_the_disk_does_not_take_is_dropped() -> None:
    disk = FullDisk()

    logger_to(disk).msg("series complete")

    assert disk.getvalue() == ""


def test_a_line_that_can_be_written_is_written_at_once() -> None:
    stream = StringIO()

    logger_to(stream).msg("series complete")

    assert stream.getvalue() == "series complete\n"
