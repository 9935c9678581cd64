"""One try of a delivery: what it writes, and when the next one comes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.domain.delivery import CommitmentReport, DeliveryPlan, StoreReceipt, failed_of, is_proven
from node.domain.errors import NodeError, PeerError, UnreachableError
from node.domain.jobs import DeliveryState, TransitionError
from node.stages.deliver import Deliverer, RetryPolicy

JOB, TPS = "1.2.3/ffff/m/1", "tps"
POLICY = RetryPolicy(first_retry_s=5, longest_retry_s=60, give_up_after_s=86_400)


class FakeLedger:
    """One delivery; what is enqueued is kept: (job, destination, attempt, delay, via)."""

    def __init__(self, **row: Any) -> None:
        self.row: dict[str, Any] = {
            "job": JOB,
            "destination": TPS,
            "state": DeliveryState.QUEUED,
            "attempt": 1,
            "reason": "",
            "offers": [["1.1", "1.2"]],
            "receipts": [],
            "created_at": 0.0,
            "next_attempt_at": None,
            "via": None,
            "confirmation": {},
            "confirmed_at": None,
            "alarmed_at": None,
            "waits_for": "",
            **row,
        }
        self.enqueued: list[Any] = []
        self.reports: list[CommitmentReport] = []

    def delivery(self, job: str, destination: str) -> dict[str, Any] | None:
        return dict(self.row) if (job, destination) == (JOB, TPS) else None

    def due_deliveries(self, called: str) -> Sequence[dict[str, Any]]:
        return []

    def outputs(self, job: str) -> Sequence[dict[str, Any]]:
        return [
            {"sop_instance_uid": "1.1", "kind": "rtstruct", "form": "generic", "path": "results/rtstruct.dcm"},
            {"sop_instance_uid": "1.2", "kind": "seg", "form": "labelmap", "path": "results/seg.dcm"},
            {"sop_instance_uid": "2.1", "kind": "rtstruct", "form": "generic", "path": "results/others.dcm"},
            {"sop_instance_uid": "2.2", "kind": "seg", "form": "binary", "path": "results/binary.dcm"},
        ]

    def move_delivery(
        self,
        job: str,
        destination: str,
        state: DeliveryState,
        facts: Any,
        enqueue: Any,
        *,
        at_attempt: int | None = None,
    ) -> None:
        if at_attempt not in (None, self.row["attempt"]):
            raise TransitionError("moved meanwhile")
        self.row |= {"state": state, **facts}
        if enqueue is not None:
            enqueue(self.enqueued)

    def ask_commitment(self, job: str, destination: str, transaction_uid: str) -> None:
        asked = [*self.row["confirmation"].get("transactions", []), transaction_uid]
        self.row["confirmation"] = {**self.row["confirmation"], "by": "commitment", "transactions": asked}

    def commitment_reported(self, report: CommitmentReport) -> bool:
        failed = failed_of(report, [one["sop_instance_uid"] for one in self.row["receipts"]])
        self.row["confirmation"] = {**self.row["confirmation"], "failed": failed}
        self.row["confirmed_at"] = None if failed else 100.0
        return True


class FakeQueue:
    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0, priority: int = 10) -> Callable[[Any], None]:
        raise AssertionError("a delivery contours nothing")

    def deliver(
        self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0, via: str | None = None
    ) -> Callable[[Any], None]:
        return lambda transaction: transaction.append((job, destination, attempt, delay_s, via))


@dataclass
class FakeCarrier:
    """Destinations that do as told."""

    send: Callable[..., Any]
    plans: dict[str, DeliveryPlan] = field(default_factory=dict)
    report: CommitmentReport | NodeError | None = None
    missing: Sequence[str] | NodeError = ()
    down: set[str] = field(default_factory=set)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    probed: list[str] = field(default_factory=list)

    def plan(self, destination: str) -> DeliveryPlan:
        return self.plans.get(destination, DeliveryPlan())

    def store(self, destination: str, offers: Sequence[Sequence[Path]]) -> Sequence[StoreReceipt]:
        sent: Sequence[StoreReceipt] = self.send(destination, offers)
        return sent

    def probe(self, destination: str) -> None:
        self.probed.append(destination)
        if destination in self.down:
            raise UnreachableError(f"{destination} does not answer")

    def request_commitment(
        self, destination: str, transaction_uid: str, objects: Mapping[str, str]
    ) -> CommitmentReport | None:
        self.asked.append((transaction_uid, dict(objects)))
        if isinstance(self.report, NodeError):
            raise self.report
        return self.report

    def missing_of(self, destination: str, files: Sequence[Path]) -> Sequence[str]:
        if isinstance(self.missing, NodeError):
            raise self.missing
        return self.missing


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


def deliverer(ledger: FakeLedger, store: Callable[..., Any] | FakeCarrier, now: float = 100.0) -> Deliverer:
    return Deliverer(
        ledger=ledger,
        queue=FakeQueue(),
        carrier=store if isinstance(store, FakeCarrier) else FakeCarrier(store),
        policy=POLICY,
        results=Path("/data"),
        now=lambda: now,
        log=lambda *_, **__: None,
    )


def unreachable(*_: Any) -> Any:
    raise UnreachableError("tps does not answer")


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
    assert ledger.enqueued == [(JOB, TPS, attempt + 1, delay_s, None)]
    assert ledger.row["waits_for"] == "destination"


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
    # That it answers an echo says nothing of its disk: for its time, not for the destination.
    assert ledger.row["waits_for"] == ""


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


def test_a_fault_in_the_middle_of_sending_waits_for_its_time_and_not_for_an_echo() -> None:
    ledger = FakeLedger()

    def aborts(*_: Any) -> Any:
        raise PeerError("tps aborted the association")

    deliverer(ledger, aborts)(JOB, TPS, 1)

    assert (ledger.row["state"], ledger.row["waits_for"]) == (DeliveryState.WAITING, "")


def test_what_a_person_moved_while_it_was_sent_stays_where_it_was_moved() -> None:
    ledger = FakeLedger()

    def sent_while_a_person_cancels(*_: Any) -> Any:
        ledger.row |= {"attempt": 2, "state": DeliveryState.CANCELLED}
        return [receipt("stored", 0)]

    deliverer(ledger, sent_while_a_person_cancels)(JOB, TPS, 1)

    assert ledger.row["state"] == DeliveryState.CANCELLED


# Failing over ---------------------------------------------------------------------------------------------------------

OTHER = {TPS: DeliveryPlan(fail_over="other", fail_over_after_s=60.0)}


def test_before_its_time_nothing_fails_over() -> None:
    ledger = FakeLedger()

    deliverer(ledger, FakeCarrier(unreachable, OTHER), now=59.0)(JOB, TPS, 1)

    assert ledger.enqueued == [(JOB, TPS, 2, 5.0, None)]


def test_what_is_not_taken_for_long_goes_to_the_other_at_once_and_the_row_says_so() -> None:
    ledger = FakeLedger(attempt=4, state=DeliveryState.WAITING)
    called: list[str] = []

    def store(destination: str, offers: Any) -> Any:
        called.append(destination)
        return unreachable() if destination == TPS else [receipt("stored", 0)]

    carrier = FakeCarrier(store, OTHER)
    deliverer(ledger, carrier, now=61.0)(JOB, TPS, 4)
    deliverer(ledger, carrier, now=62.0)(JOB, TPS, 5)

    assert called == [TPS, "other"]
    assert ledger.enqueued == [(JOB, TPS, 5, 0.0, "other")]
    assert (ledger.row["state"], ledger.row["via"]) == (DeliveryState.DELIVERED, "other")


def test_where_the_other_does_not_answer_either_both_are_tried_again_later() -> None:
    ledger = FakeLedger(attempt=4, state=DeliveryState.WAITING)

    carrier = FakeCarrier(unreachable, OTHER)
    deliverer(ledger, carrier, now=61.0)(JOB, TPS, 4)
    deliverer(ledger, carrier, now=62.0)(JOB, TPS, 5)

    assert ledger.enqueued == [(JOB, TPS, 5, 0.0, "other"), (JOB, TPS, 6, 60.0, None)]
    assert ledger.row["via"] is None


# Proof ----------------------------------------------------------------------------------------------------------------

COMMITS, FINDS = {TPS: DeliveryPlan(confirm="commitment")}, {TPS: DeliveryPlan(confirm="find")}
STORED = [{"sop_instance_uid": uid, "sop_class_uid": f"class of {uid}"} for uid in ("1.1", "1.2")]


def sent(plans: dict[str, DeliveryPlan], **facts: Any) -> tuple[FakeLedger, FakeCarrier]:
    """Give a delivery that was sent and is to be confirmed."""
    row = {"state": DeliveryState.DELIVERED, "attempt": 2, "next_attempt_at": 90.0, "receipts": STORED}
    confirmation = {"by": plans[TPS].confirm}
    return FakeLedger(**{**row, "confirmation": confirmation, **facts}), FakeCarrier(never, plans)


@pytest.mark.parametrize(("plans", "delay_s"), [(COMMITS, 0.0), (FINDS, 5.0)])
def test_what_was_taken_is_delivered_and_its_proof_asked_for(plans: Any, delay_s: float) -> None:
    ledger = FakeLedger()

    deliverer(ledger, FakeCarrier(lambda *_: [receipt("stored", 0)], plans))(JOB, TPS, 1)

    assert ledger.row["state"] == DeliveryState.DELIVERED
    assert ledger.enqueued == [(JOB, TPS, 2, delay_s, None)]
    assert not is_proven(ledger.row)


def test_without_a_proof_asked_for_the_receipts_are_the_proof() -> None:
    ledger = FakeLedger()

    deliverer(ledger, lambda *_: [receipt("stored", 0)])(JOB, TPS, 1)

    assert is_proven(ledger.row)


def test_a_commitment_is_asked_for_every_object_under_a_transaction_that_was_noted_before() -> None:
    ledger, carrier = sent(COMMITS)

    deliverer(ledger, carrier)(JOB, TPS, 2)

    ((transaction, objects),) = carrier.asked
    assert objects == {"1.1": "class of 1.1", "1.2": "class of 1.2"}
    assert ledger.row["confirmation"]["transactions"] == [transaction]
    # Asked anew where no report comes.
    assert ledger.enqueued == [(JOB, TPS, 3, POLICY.commitment_timeout_s, None)]
    assert ledger.row["state"] == DeliveryState.DELIVERED


def test_a_report_at_once_confirms() -> None:
    ledger, carrier = sent(COMMITS)
    carrier.report = CommitmentReport(transaction_uid="2.25.1", committed=("1.1", "1.2"), failed={})

    deliverer(ledger, carrier)(JOB, TPS, 2)

    assert is_proven(ledger.row)
    assert ledger.enqueued == []


@pytest.mark.parametrize(
    ("committed", "failed", "said"),
    [(("1.1",), {"1.2": 0x0112}, "does not have the object (0x0112)"), (("1.1",), {}, "not in its report")],
)
def test_what_is_not_kept_is_told_and_sent_again(committed: Any, failed: Any, said: str) -> None:
    ledger, carrier = sent(COMMITS)
    carrier.report = CommitmentReport(transaction_uid="2.25.1", committed=committed, failed=failed)

    deliverer(ledger, carrier)(JOB, TPS, 2)

    assert ledger.row["state"] == DeliveryState.WAITING
    assert said in ledger.row["reason"]
    assert ledger.row["confirmation"] == {}
    assert ledger.enqueued == [(JOB, TPS, 3, 10.0, None)]


def test_a_report_that_came_by_another_way_is_acted_upon_without_asking_again() -> None:
    ledger, carrier = sent(COMMITS, confirmation={"by": "commitment", "failed": {"1.2": "it does not have the object"}})

    deliverer(ledger, carrier)(JOB, TPS, 2)

    assert carrier.asked == []
    assert ledger.row["state"] == DeliveryState.WAITING


def test_who_cannot_be_asked_is_asked_again_and_what_was_delivered_stays_so() -> None:
    ledger, carrier = sent(COMMITS)
    carrier.report = UnreachableError("tps does not answer")

    deliverer(ledger, carrier)(JOB, TPS, 2)

    assert (ledger.row["state"], ledger.row["waits_for"]) == (DeliveryState.DELIVERED, "destination")
    assert ledger.row["reason"] == "not confirmed: tps does not answer"
    assert ledger.enqueued == [(JOB, TPS, 3, 10.0, None)]


def test_what_is_found_is_confirmed() -> None:
    ledger, carrier = sent(FINDS)

    deliverer(ledger, carrier)(JOB, TPS, 2)

    assert is_proven(ledger.row)
    assert ledger.row["confirmation"]["by"] == "find"


def test_what_is_not_found_is_looked_for_again_and_at_last_sent_again() -> None:
    ledger, carrier = sent(FINDS)
    carrier.missing = ["1.2"]

    for attempt in range(2, 8):
        deliverer(ledger, carrier)(JOB, TPS, attempt)

    assert [delay_s for _, _, _, delay_s, _ in ledger.enqueued[:5]] == [5.0, 10.0, 20.0, 40.0, 60.0]
    assert ledger.row["state"] == DeliveryState.WAITING
    assert ledger.row["reason"] == "1 of 2 objects are not found (C-FIND)"


def test_a_proof_that_never_comes_is_asked_for_no_more_and_is_no_proof() -> None:
    ledger, carrier = sent(COMMITS)

    deliverer(ledger, carrier, now=86_401.0)(JOB, TPS, 2)

    assert ledger.row["reason"] == "never confirmed: no answer came"
    assert ledger.enqueued == []
    assert ledger.row["state"] == DeliveryState.DELIVERED
    assert not is_proven(ledger.row)
