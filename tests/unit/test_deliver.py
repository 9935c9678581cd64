"""One try of a delivery: what it writes, and when the next one comes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from node.domain.delivery import StoreReceipt
from node.domain.errors import PeerError
from node.domain.jobs import DeliveryState
from node.stages.deliver import Deliverer, RetryPolicy

JOB, TPS = "1.2.3/ffff/m/1", "tps"
POLICY = RetryPolicy(first_retry_s=5, longest_retry_s=60, give_up_after_s=86_400)


class FakeLedger:
    def __init__(self, **row: Any) -> None:
        self.row: dict[str, Any] = {
            "job": JOB,
            "destination": TPS,
            "state": DeliveryState.QUEUED,
            "attempt": 1,
            "offers": [["1.1", "1.2"]],
            "created_at": 0.0,
            **row,
        }
        self.enqueued: list[Any] = []

    def delivery(self, job: str, destination: str) -> dict[str, Any] | None:
        return dict(self.row) if (job, destination) == (JOB, TPS) else None

    def outputs(self, job: str) -> Sequence[dict[str, Any]]:
        return [
            {"sop_instance_uid": "1.1", "kind": "rtstruct", "form": "generic", "path": "results/rtstruct.dcm"},
            {"sop_instance_uid": "1.2", "kind": "seg", "form": "labelmap", "path": "results/seg.dcm"},
            {"sop_instance_uid": "2.1", "kind": "rtstruct", "form": "generic", "path": "results/others.dcm"},
            {"sop_instance_uid": "2.2", "kind": "seg", "form": "binary", "path": "results/binary.dcm"},
        ]

    def move_delivery(self, job: str, destination: str, state: DeliveryState, facts: Any, enqueue: Any) -> None:
        self.row |= {"state": state, **facts}
        if enqueue is not None:
            enqueue(self.enqueued)


class FakeQueue:
    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0, priority: int = 10) -> Callable[[Any], None]:
        raise AssertionError("a delivery contours nothing")

    def deliver(self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0) -> Callable[[Any], None]:
        return lambda transaction: transaction.append((job, destination, attempt, delay_s))


def receipt(outcome: Any, status: int, *, worth_retrying: bool = False, uid: str = "1.1") -> StoreReceipt:
    return StoreReceipt(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.481.3",
        transfer_syntax_uid="1.2.840.10008.1.2",
        outcome=outcome,
        status=status,
        reason=f"said 0x{status:04X}",
        worth_retrying=worth_retrying,
        took_s=0.1,
    )


def deliverer(ledger: FakeLedger, store: Callable[..., Any], now: float = 100.0) -> Deliverer:
    return Deliverer(
        ledger=ledger,
        queue=FakeQueue(),
        store=store,
        policy=POLICY,
        results=Path("/data"),
        now=lambda: now,
        log=lambda *_, **__: None,
    )


def unreachable(*_: Any) -> Any:
    raise PeerError("tps does not answer")


def never(*_: Any) -> Any:
    raise AssertionError("nothing should be sent")


def test_every_output_is_sent_and_its_receipt_kept() -> None:
    ledger = FakeLedger()
    sent: list[Any] = []

    def store(destination: str, offers: Sequence[Sequence[Path]]) -> Sequence[StoreReceipt]:
        sent.append((destination, [path for files in offers for path in files]))
        return [receipt("stored", 0x0000), receipt("stored with warning", 0xB000)]

    deliverer(ledger, store)(JOB, TPS, 1)

    assert sent == [(TPS, [Path("/data/results/rtstruct.dcm"), Path("/data/results/seg.dcm")])]
    assert ledger.row["state"] == DeliveryState.DELIVERED
    assert [one["status"] for one in ledger.row["receipts"]] == [0x0000, 0xB000]
    assert ledger.enqueued == []


def test_a_form_that_the_destination_does_not_take_is_said_though_another_was_delivered() -> None:
    ledger = FakeLedger(offers=[["1.1", "1.2"], ["2.1", "2.2"]])
    offered: list[Any] = []

    def store(destination: str, offers: Sequence[Sequence[Path]]) -> Sequence[StoreReceipt]:
        offered.extend(offers)
        return [receipt("stored", 0x0000, uid="2.1"), receipt("stored", 0x0000, uid="2.2")]

    deliverer(ledger, store)(JOB, TPS, 1)

    assert [[path.name for path in files] for files in offered] == [
        ["rtstruct.dcm", "seg.dcm"],
        ["others.dcm", "binary.dcm"],
    ]
    assert ledger.row["state"] == DeliveryState.DELIVERED
    assert ledger.row["reason"] == "it takes no labelmap Segmentation, binary was sent"


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 5.0), (2, 10.0), (5, 60.0)])
def test_a_destination_that_is_down_is_tried_again_ever_later(attempt: int, delay_s: float) -> None:
    ledger = FakeLedger(attempt=attempt)

    deliverer(ledger, unreachable)(JOB, TPS, attempt)

    assert ledger.row["state"] == DeliveryState.WAITING
    assert ledger.row["reason"] == "tps does not answer"
    assert ledger.row["next_attempt_at"] == 100.0 + delay_s
    assert ledger.enqueued == [(JOB, TPS, attempt + 1, delay_s)]


def test_a_try_that_was_made_is_not_made_again() -> None:
    ledger = FakeLedger(attempt=2, state=DeliveryState.WAITING)

    deliverer(ledger, never)(JOB, TPS, 1)

    assert ledger.row["attempt"] == 2


@pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.REFUSED, DeliveryState.GIVEN_UP])
def test_what_has_ended_is_not_sent_again(state: DeliveryState) -> None:
    deliverer(FakeLedger(state=state), never)(JOB, TPS, 1)


def test_an_unknown_delivery_sends_nothing() -> None:
    deliverer(FakeLedger(), never)("1.2.4/ffff/m/1", TPS, 1)


def test_a_passing_refusal_is_tried_again() -> None:
    ledger = FakeLedger()

    deliverer(ledger, lambda *_: [receipt("stored", 0), receipt("refused", 0xA700, worth_retrying=True)])(JOB, TPS, 1)

    assert ledger.row["state"] == DeliveryState.WAITING
    assert ledger.row["reason"] == "said 0xA700"


def test_a_final_refusal_ends_with_its_reason() -> None:
    ledger = FakeLedger()

    deliverer(ledger, lambda *_: [receipt("refused", 0xA900), receipt("refused", 0xA700, worth_retrying=True)])(
        JOB, TPS, 1
    )

    assert ledger.row["state"] == DeliveryState.REFUSED
    assert ledger.row["reason"] == "said 0xA900"
    assert ledger.enqueued == []


def test_after_days_it_is_given_up_with_the_last_reason() -> None:
    ledger = FakeLedger(attempt=40, state=DeliveryState.WAITING)

    deliverer(ledger, unreachable, now=86_401.0)(JOB, TPS, 40)

    assert ledger.row["state"] == DeliveryState.GIVEN_UP
    assert ledger.row["reason"] == "tps does not answer"
    assert ledger.enqueued == []


def test_a_result_that_cannot_be_read_is_not_given_up_at_once() -> None:
    ledger = FakeLedger()

    def unreadable(*_: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    deliverer(ledger, unreadable)(JOB, TPS, 1)

    assert ledger.row["state"] == DeliveryState.WAITING
    assert "No such file" in ledger.row["reason"]
