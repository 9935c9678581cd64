"""The log: one line per change of state, an event with its fields, to standard error; never a patient's name.

The ways in and out of it are the service's to choose: the core and the stages are handed ``log`` as a value.
"""

import logging
import sys
import warnings
from contextlib import suppress
from io import TextIOBase
from typing import Any, TextIO

import structlog

_log = structlog.get_logger("delineate")


def log(event: str, **fields: Any) -> None:
    """Write one line: an event with its fields."""
    _log.info(event, **fields)


class LogStream(TextIOBase):
    """Drops the lines that the stream does not take: a full disk, or a reader that left, must not stop the work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if it can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if it can be flushed."""
        with suppress(OSError):
            self._stream.flush()


def silence() -> None:
    """Log nothing: for commands that tell people what happens."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _quieten_libraries()


def set_up_logging(log_format: str, role: str) -> None:
    """Send all log lines to standard error: readable text, or one JSON object per line."""
    stream: Any = LogStream(sys.stderr)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s [%(levelname)s] %(name)s %(message)s"
    )
    _quieten_libraries()


def _quieten_libraries() -> None:
    # What these libraries say quotes element values, the patient's name among them; we say what matters ourselves.
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
