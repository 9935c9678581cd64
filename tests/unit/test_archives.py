"""Asking archives beside the assembling: nobody waits, nothing is asked twice, and a failure is an answer."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from node.domain.delivery import PeerAddress
from node.domain.errors import PeerError
from node.domain.evidence import ArchiveAnswer
from node.stages.archives import Archive, ArchiveDesk

PACS = Archive(
    calling_ae_titles=("PACS*", "VNA"),
    address=PeerAddress(name="pacs", ae_title="PACS", host="127.0.0.1", port=1),
    timeout_s=5.0,
)


@contextmanager
def desk(count: Callable[[Archive, str, str], int]) -> Iterator[ArchiveDesk]:
    asking = ArchiveDesk([PACS], count=count, now=lambda: 100.0, log=lambda *_, **__: None)
    try:
        yield asking
    finally:
        asking.close()


def answered(asking: ArchiveDesk, series_uid: str = "1.2.3") -> ArchiveAnswer:
    until = time.monotonic() + 10
    while (answer := asking.answer(series_uid)) is None:
        assert time.monotonic() < until, "no answer came"
        time.sleep(0.01)
    return answer


def test_an_answer_is_kept_with_what_was_here_when_it_was_asked() -> None:
    with desk(lambda archive, study_uid, series_uid: 60) as asking:
        asking.ask(["PACS1"], "1.2", "1.2.3", 42)

        assert answered(asking) == ArchiveAnswer(archive="PACS", count=60, asked_at=100.0, had=42)


def test_only_the_archives_of_a_sender_are_asked() -> None:
    asked: list[str] = []

    def count(archive: Archive, study_uid: str, series_uid: str) -> int:
        asked.append(series_uid)
        return 1

    with desk(count) as asking:
        assert asking.knows(["CT1", "pacs_2"])
        assert not asking.knows(["CT1"])
        asking.ask(["CT1"], "1.2", "1.2.9", 0)
        asking.ask(["VNA"], "1.2", "1.2.3", 0)
        answered(asking)

    assert asked == ["1.2.3"]


def test_while_an_archive_thinks_nobody_waits_and_it_is_not_asked_again() -> None:
    go_on, asked = threading.Event(), []

    def count(archive: Archive, study_uid: str, series_uid: str) -> int:
        asked.append(series_uid)
        go_on.wait(10)
        return 5

    with desk(count) as asking:
        asking.ask(["PACS"], "1.2", "1.2.3", 1)
        asking.ask(["PACS"], "1.2", "1.2.3", 2)
        assert asking.answer("1.2.3") is None
        go_on.set()

        assert answered(asking).had == 1
    assert asked == ["1.2.3"]


def test_a_failure_is_an_answer_without_a_number() -> None:
    def silent(archive: Archive, study_uid: str, series_uid: str) -> int:
        raise PeerError("it did not answer in time")

    def broken(archive: Archive, study_uid: str, series_uid: str) -> int:
        raise KeyError("Doe^Jane")

    for count, reason in ((silent, "it did not answer in time"), (broken, "internal error (KeyError)")):
        with desk(count) as asking:
            asking.ask(["PACS"], "1.2", "1.2.3", 1)
            answer = answered(asking)

        assert (answer.count, answer.reason) == (None, reason)
