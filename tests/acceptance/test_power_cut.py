"""A power cut at the moment of any answer: what was acknowledged is there after the next start.

strace tells what the receiver asked of the disk, and in which order; ``tests.power_cut`` tells what that leaves.
"""

import contextlib
import os
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.acceptance.running import RunningNode, run
from tests.acceptance.test_peers import require
from tests.builders import ct_series, grid, save_series
from tests.fakes import free_port
from tests.power_cut import Answer, Disk, answers, parse, strace
from tests.raw_sender import Instance, RawAssociation, data_set_of


class TracedReceiver(RunningNode):
    """The receiver alone, under strace."""

    @property
    def trace_path(self) -> Path:
        """Give where strace writes."""
        return self.folder / "trace"

    def command(self) -> list[str]:
        """Give the command line."""
        return [*strace(self.trace_path), *super().command(), "--role", "receiver"]

    def stop(self) -> int:
        """Stop the receiver; strace ends with it."""
        assert self.process is not None
        (receiver,) = psutil.Process(self.process.pid).children()
        for _ in range(30):
            # A signal that comes while strace holds the main thread goes to another thread, and Python does not wake.
            with contextlib.suppress(psutil.NoSuchProcess):
                receiver.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(1)
        receiver.kill()
        return self.process.wait(30)


# What stands in for os.fsync and os.fdatasync in a receiver whose faults must be noticed.
FAULTS = {
    "syncs nothing": "lambda file: None",
    "syncs no file": "lambda file: real(file) if stat.S_ISDIR(os.fstat(file).st_mode) else None",
    "syncs no folder": "lambda file: None if stat.S_ISDIR(os.fstat(file).st_mode) else real(file)",
}


class FaultyReceiver(TracedReceiver):
    """A receiver that does not sync all that it should."""

    fault: str

    def command(self) -> list[str]:
        """Give the command line."""
        command = super().command()
        at = command.index("-m")
        faulty = f"import os, stat; real = os.fsync; os.fsync = os.fdatasync = {FAULTS[self.fault]}"
        return [*command[:at], "-c", f"{faulty}; from node.__main__ import main; main()", *command[at + 2 :]]


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What was sent to a receiver under strace, and what it answered."""

    # By message: no two instances were sent as the same.
    sent: dict[int, Instance]
    answers: list[Answer]
    # What each file holds, also those that another took the place of.
    contents: dict[int, bytes]

    def hold(self, numbers: Iterable[int], instance: Instance) -> bool:
        """Tell whether every one of these files holds that data set behind its file meta information."""
        return all(self.contents.get(number, b"").endswith(instance.data_set) for number in numbers)

    def lost(self) -> list[int]:
        """Give the messages that were answered with success and might not survive a power cut at that moment."""
        return [
            answer.message_id
            for answer in self.answers
            # What the receiver answers itself when it tries its transport at the start is no success.
            if answer.status == 0x0000
            and not any(
                is_found_at_the_next_start(path) and self.hold(numbers, self.sent[answer.message_id])
                for path, numbers in answer.survivors.items()
            )
        ]


def is_found_at_the_next_start(path: str) -> bool:
    """Tell whether a path below the data folder is one that the node reads after a start."""
    return re.fullmatch(r"inbox/[0-9.]+/[^./][^/]*\.dcm", path) is not None


@contextmanager
def running(receiver: TracedReceiver) -> Iterator[TracedReceiver]:
    receiver.start()
    try:
        yield receiver
    finally:
        if not receiver.process_ended():
            receiver.stop()


def instances_of(folder: Path, *, series: str, slices: int, rows: int) -> list[Instance]:
    """Build a series."""
    stack = grid(slices=slices, rows=rows, columns=80, series=series)
    return [Instance.read(path) for path in save_series(ct_series(stack, series=series), folder / series)]


def send_under_strace(receiver: TracedReceiver, senders: list[list[Instance]]) -> Traced:
    """Send each list over an association of its own, all at the same time."""
    numbered = [
        {1000 * sender + place: instance for place, instance in enumerate(instances, start=1)}
        for sender, instances in enumerate(senders)
    ]
    statuses: list[int] = []
    with running(receiver):
        start = threading.Barrier(len(senders))

        def send(messages: dict[int, Instance]) -> None:
            contexts = {(one.sop_class_uid, (one.transfer_syntax_uid,)) for one in messages.values()}
            with RawAssociation(receiver.address, list(contexts)) as association:
                start.wait(30)
                statuses.extend(association.store(one, message_id=number).status for number, one in messages.items())

        threads = [threading.Thread(target=send, args=(messages,)) for messages in numbered]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    root = receiver.folder / "var"
    disk = Disk(root)
    calls = parse(receiver.trace_path.read_text(encoding="ascii"), cwd=receiver.folder)
    answered = list(answers(calls, disk))
    sent = {number: instance for messages in numbered for number, instance in messages.items()}
    assert statuses == [0x0000] * len(sent)
    assert {answer.message_id for answer in answered} == sent.keys()
    return Traced(
        sent=sent,
        answers=answered,
        # A file of which the trace does not tell all is read where it is.
        contents={number: (root / path).read_bytes() for number, path in disk.paths().items()} | disk.contents(),
    )


@pytest.fixture(scope="module")
def one_sender(tmp_path_factory: pytest.TempPathFactory, needs_strace: None) -> Traced:
    """Give one sender, of instances that need several PDUs each."""
    folder = tmp_path_factory.mktemp("one-sender")
    return send_under_strace(
        TracedReceiver(folder, destination_port=free_port()), [instances_of(folder, series="one", slices=12, rows=1000)]
    )


@pytest.fixture(scope="module")
def four_senders(tmp_path_factory: pytest.TempPathFactory, needs_strace: None) -> Traced:
    """Give four senders: all send one series, in the same order at the same time, then each a series of its own."""
    folder = tmp_path_factory.mktemp("four-senders")
    shared = instances_of(folder, series="shared", slices=4, rows=60)
    own = [instances_of(folder, series=f"own-{number}", slices=6, rows=60) for number in range(4)]
    return send_under_strace(
        TracedReceiver(folder, destination_port=free_port()), [[*shared, *series] for series in own]
    )


@pytest.fixture(scope="module")
def needs_strace() -> None:
    require("strace")
    tried = run(["strace", "-o", os.devnull, "-f", "--seccomp-bpf", "true"])
    if tried.returncode != 0:
        message = f"strace may not trace here: {tried.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.mark.parametrize("senders", ["one_sender", "four_senders"])
def test_every_acknowledged_instance_survives_a_power_cut_at_the_moment_of_its_answer(
    senders: str, request: pytest.FixtureRequest
) -> None:
    told: Traced = request.getfixturevalue(senders)

    assert told.lost() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_receiver_that_does_not_sync_what_it_should_is_found_out(
    tmp_path: Path, needs_strace: None, fault: str
) -> None:
    receiver = FaultyReceiver(tmp_path, destination_port=free_port())
    receiver.fault = fault

    told = send_under_strace(receiver, [instances_of(tmp_path, series="one", slices=3, rows=60)])

    assert told.lost() == [1, 2, 3]


@pytest.mark.parametrize("senders", ["one_sender", "four_senders"])
def test_what_survived_once_survives_every_later_power_cut(senders: str, request: pytest.FixtureRequest) -> None:
    told: Traced = request.getfixturevalue(senders)

    for before, after in zip(told.answers, told.answers[1:], strict=False):
        kept = {path for path in before.survivors if is_found_at_the_next_start(path)}
        assert kept <= after.survivors.keys()


def test_a_node_started_on_what_a_power_cut_left_finds_every_acknowledged_instance(
    four_senders: Traced, tmp_path: Path
) -> None:
    told = four_senders
    moment = 2 * len(told.answers) // 3
    cut = told.answers[moment]
    acknowledged = {told.sent[one.message_id].sop_instance_uid for one in told.answers[: moment + 1]}
    bytes_of = {one.sop_instance_uid: one.data_set for one in told.sent.values()}
    leave_behind(cut, told, tmp_path / "var")

    with RunningNode(tmp_path, destination_port=free_port(), settle_s=0.1, quiet_period_s=0.5) as node:
        status = node.wait_until(
            lambda status: sum(row["instances"] for row in status["series"]) >= len(acknowledged), within_s=30
        )

    assert all(row["instances"] for row in status["series"])
    found = {data_set_of(path) for path in (tmp_path / "var").rglob("*.dcm")}
    assert {bytes_of[uid] for uid in acknowledged} <= found


def leave_behind(cut: Answer, told: Traced, root: Path) -> None:
    """Write what a power cut leaves but the database: all that is certain, and the rest as torn as it may be."""
    survivors = {path: min(numbers) for path, numbers in cut.survivors.items()}
    for path, number in {**cut.uncertain, **survivors}.items():
        if path.startswith("delineate.sqlite"):
            continue
        content = told.contents[number]
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[: len(content) // 2] if number in cut.torn else content)
