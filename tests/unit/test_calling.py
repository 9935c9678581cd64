"""Answers reach whoever waits for them, whatever the association's own thread does meanwhile."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from pynetdicom import build_context

from node.adapters.calling import Caller, Line, keep_answers
from tests.fakes import FakeDestination

VERIFICATION = "1.2.840.10008.1.1"


@dataclass
class Message:
    """A DIMSE primitive, as far as the queue looks at it."""

    name: str
    is_valid_request: bool


ANSWER, REQUEST = Message("C-STORE-RSP", False), Message("N-EVENT-REPORT-RQ", True)


class Association(threading.Thread):
    """The thread of an association, which does what it is told; and its DIMSE provider."""

    def __init__(self) -> None:
        super().__init__()
        self.dimse = self
        self.msg_queue: queue.Queue[Any] = queue.Queue()
        self.act: Callable[[], object] = object
        self.outcome: object = None
        keep_answers(self)

    def run(self) -> None:
        try:
            self.outcome = self.act()
        except queue.Empty:
            self.outcome = "nothing"

    def takes(self) -> object:
        """Take a message, as the association's own thread."""
        self.act = lambda: self.msg_queue.get(block=False)
        self.start()
        self.join()
        return self.outcome


def test_the_own_thread_of_an_association_leaves_answers_to_who_waits() -> None:
    association = Association()
    association.msg_queue.put((1, ANSWER))

    assert association.takes() == "nothing"
    assert association.msg_queue.get(timeout=5.0) == (1, ANSWER)


def test_who_waits_for_an_answer_is_not_given_a_request_that_comes_before_it() -> None:
    association = Association()
    association.msg_queue.put((1, REQUEST))

    with pytest.raises(queue.Empty):
        association.msg_queue.get(timeout=0.05)
    association.msg_queue.put((1, ANSWER))

    assert association.msg_queue.get(timeout=5.0) == (1, ANSWER)
    assert association.takes() == (1, REQUEST)


def test_an_answer_that_comes_later_and_an_end_wake_who_waits() -> None:
    association = Association()
    for message in ((1, ANSWER), (None, None)):
        timer = threading.Timer(0.05, association.msg_queue.put, [message])
        timer.start()

        assert association.msg_queue.get(timeout=30.0) == message


def test_pynetdicom_takes_its_messages_from_that_queue() -> None:
    taken = []
    with (
        FakeDestination() as destination,
        Caller(destination.address, Line(calling_ae_title="NODE")).association(
            [build_context(VERIFICATION)]
        ) as association,
    ):
        messages = association.dimse.msg_queue
        get = messages.get

        def noted(*arguments: Any, **more: Any) -> Any:
            message = get(*arguments, **more)
            taken.append((threading.current_thread() is association, message[1].msg_type))
            return message

        messages.get = noted
        assert association.send_c_echo().Status == 0

    assert taken == [(False, "C-ECHO")]
