"""What the ledger knows of deliveries: what is due, what is let go, what is proven, what is overdue."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from node.adapters.ledger import Ledger
from node.domain.delivery import CommitmentReport, is_proven, is_under_way
from node.domain.jobs import DeliveryState

TPS, OTHER = "tps", "other"
STORED = [{"sop_instance_uid": "1.1"}, {"sop_instance_uid": "1.2"}]


class Outbox:
    """A ledger whose clock is ours, with deliveries of one object each."""

    def __init__(self, database: sa.Engine) -> None:
        self.now = 1000.0
        self.ledger = Ledger(database, now=lambda: self.now)
        self.enqueued: list[str] = []

    def add(self, job: str, state: DeliveryState = DeliveryState.QUEUED, **facts: Any) -> None:
        self.ledger.add_notice(job, [], {TPS: [["1.1", "1.2"]]}, lambda _: None)
        if state != DeliveryState.QUEUED or facts:
            self.ledger.move_delivery(job, TPS, state, facts, None)

    def row(self, job: str) -> dict[str, Any]:
        row = self.ledger.delivery(job, TPS)
        assert row is not None
        return row

    def due(self, called: str = TPS) -> list[str]:
        return [row["job"] for row in self.ledger.due_deliveries(called)]

    def release(self, row: dict[str, Any], **facts: Any) -> int:
        job = row["job"]
        return self.ledger.release_deliveries([(row, facts, lambda _: self.enqueued.append(job))])


@pytest.fixture
def outbox(open_node_database: Callable[[], sa.Engine]) -> Outbox:
    return Outbox(open_node_database())


def test_due_is_what_is_queued_and_what_has_waited_for_its_time(outbox: Outbox) -> None:
    outbox.add("queued")
    outbox.add("waited", DeliveryState.WAITING, next_attempt_at=999.0)
    outbox.add("waits", DeliveryState.WAITING, next_attempt_at=1001.0)
    outbox.add("delivered", DeliveryState.DELIVERED, next_attempt_at=999.0)

    assert sorted(outbox.due()) == ["queued", "waited"]


def test_what_fails_over_is_due_there_and_not_at_its_own_destination(outbox: Outbox) -> None:
    outbox.add("job", DeliveryState.WAITING, next_attempt_at=999.0, via=OTHER)

    assert outbox.due() == []
    assert outbox.due(OTHER) == ["job"]


def test_what_is_let_go_has_its_next_try_now_and_its_task_with_it(outbox: Outbox) -> None:
    outbox.add("job", DeliveryState.WAITING, next_attempt_at=5000.0, attempt=7, waits_for="destination")

    assert outbox.release(outbox.row("job"), via=OTHER, waits_for="") == 1

    row = outbox.row("job")
    assert (row["attempt"], row["next_attempt_at"], row["via"]) == (8, 1000.0, OTHER)
    assert outbox.enqueued == ["job"]


@pytest.mark.parametrize(("state", "facts"), [(DeliveryState.WAITING, {"attempt": 2}), (DeliveryState.CANCELLED, {})])
def test_what_moved_meanwhile_is_not_let_go(outbox: Outbox, state: DeliveryState, facts: dict[str, Any]) -> None:
    outbox.add("job", DeliveryState.WAITING, next_attempt_at=5000.0)
    seen = outbox.row("job")
    outbox.ledger.move_delivery("job", TPS, state, facts, None)

    assert outbox.release(seen) == 0
    assert outbox.enqueued == []


def test_all_that_has_a_try_before_it_is_under_way_and_nothing_else(outbox: Outbox) -> None:
    outbox.add("queued")
    outbox.add("waits", DeliveryState.WAITING, next_attempt_at=5000.0)
    outbox.add("to be proven", DeliveryState.DELIVERED, next_attempt_at=5000.0, confirmation={"by": "find"})
    outbox.add("proven", DeliveryState.DELIVERED, next_attempt_at=5000.0, confirmed_at=1.0)
    outbox.add("taken", DeliveryState.DELIVERED)
    outbox.add("refused", DeliveryState.REFUSED)

    under_way = {row["job"] for row in outbox.ledger.unfinished_deliveries()}

    assert under_way == {"queued", "waits", "to be proven"}
    assert under_way == {row["job"] for row in outbox.ledger.all_deliveries() if is_under_way(row)}


def asked(outbox: Outbox, *transactions: str) -> None:
    """Let a delivery be asked for its proof under these transactions."""
    outbox.add("job", DeliveryState.DELIVERED, receipts=STORED, next_attempt_at=5000.0)
    for transaction in transactions:
        outbox.ledger.ask_commitment("job", TPS, transaction)


def report(transaction: str, *committed: str, **failed: int) -> CommitmentReport:
    named = {uid.replace("_", ".")[1:]: code for uid, code in failed.items()}
    return CommitmentReport(transaction_uid=transaction, committed=committed, failed=named)


def test_a_report_of_any_transaction_that_was_asked_for_is_the_proof(outbox: Outbox) -> None:
    asked(outbox, "2.25.1", "2.25.2")

    assert outbox.ledger.commitment_reported(report("2.25.1", "1.1", "1.2"))

    row = outbox.row("job")
    assert (row["confirmed_at"], row["next_attempt_at"]) == (1000.0, None)
    assert is_proven(row)


def test_a_report_that_nobody_asked_for_changes_nothing(outbox: Outbox) -> None:
    asked(outbox, "2.25.1")
    before = outbox.row("job")

    assert not outbox.ledger.commitment_reported(report("2.25.3", "1.1", "1.2"))
    assert outbox.row("job") == before


def test_what_is_not_kept_is_noted_with_the_reason(outbox: Outbox) -> None:
    asked(outbox, "2.25.1")

    assert outbox.ledger.commitment_reported(report("2.25.1", "1.1", _1_2=0x0112))

    row = outbox.row("job")
    assert row["confirmation"]["failed"] == {"1.2": "it does not have the object (0x0112)"}
    assert not is_proven(row)


def test_a_proof_is_not_taken_back_by_a_later_report(outbox: Outbox) -> None:
    asked(outbox, "2.25.1")
    outbox.ledger.commitment_reported(report("2.25.1", "1.1", "1.2"))

    assert outbox.ledger.commitment_reported(report("2.25.1", _1_1=0x0110, _1_2=0x0110))

    assert is_proven(outbox.row("job"))


def test_an_alarm_is_an_event_and_noted_in_the_row(outbox: Outbox) -> None:
    outbox.add("job")

    outbox.ledger.alarm_delivery("job", TPS, "Not delivered for 4.0 hours: no answer")

    assert outbox.row("job")["alarmed_at"] == 1000.0
    (event,) = outbox.ledger.events()
    assert (event["kind"], event["subject"]) == ("delivery overdue", "job to tps")
