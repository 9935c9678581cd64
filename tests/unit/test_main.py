"""Ctrl-C is never lost."""

import signal
import sys
import time
import weakref

import pytest

from node.__main__ import interrupt_again


class Something:
    """What a weak reference can be made to."""


def interrupted(_: object) -> None:
    raise KeyboardInterrupt


def wait_to_be_interrupted() -> None:
    something = Something()
    reference = weakref.ref(something, interrupted)
    del something
    assert reference() is None
    time.sleep(5)


def test_ctrl_c_during_a_callback_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", interrupt_again)
    # A shell may have made us ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_to_be_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
