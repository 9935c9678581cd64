"""Deliver: one try to send a job's objects to one destination, or to have it prove that it keeps them.

A failed try enqueues the next and holds no worker.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from node.dicom.identity import derived_uid
from node.domain.delivery import DeliveryPlan, StoreReceipt, is_under_way
from node.domain.errors import NodeError, UnreachableError
from node.domain.jobs import DeliveryState, TransitionError, retry_delay_s
from node.stages.delivery_ports import Carrier, DeliveryLedger
from node.stages.ports import Log, Queue, Row

# An archive needs a moment until what it took is found; what it does not find so many times over is sent again.
_FINDS_BEFORE_SENDING_AGAIN = 6
# To be reached at all.
_DESTINATION = "destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """From ``[delivery]`` in the configuration."""

    first_retry_s: float
    longest_retry_s: float
    give_up_after_s: float
    # How long a report on Storage Commitment is waited for before it is asked for again.
    commitment_timeout_s: float = 3600.0

    def delay_s(self, attempt: int) -> float:
        """Give the wait after failed attempt number ``attempt``."""
        return retry_delay_s(attempt, first_s=self.first_retry_s, longest_s=self.longest_retry_s)


class Deliverer:
    """Sends results, and asks for the proof that they are kept where the destination is to give one.

    Parameters
    ----------
    results
        The folder that the outputs' paths are relative to.
    """

    def __init__(
        self,
        *,
        ledger: DeliveryLedger,
        queue: Queue,
        carrier: Carrier,
        policy: RetryPolicy,
        results: Path,
        now: Callable[[], float],
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._carrier = carrier
        self._policy = policy
        self._results = results
        self._now = now
        self._log = log

    def __call__(self, job: str, destination: str, attempt: int) -> None:
        """Make try number ``attempt``, unless it has been made; then those of all else that is due there.

        The engine begins a few tasks a second for each destination, and one that hangs takes its time for every try:
        so what is due goes in one task, and who cannot be reached is called once for all that is due. The tasks of the
        others find nothing left to do.
        """
        row = self._ledger.delivery(job, destination)
        fault = ""
        if row is not None and is_under_way(row) and row["attempt"] == attempt:
            fault = self._try(row)
        self._go_on(destination if row is None else _called(row), fault)

    def _try(self, row: Row) -> str:
        """Make one try; gives why the destination cannot be reached, or nothing."""
        try:
            if row["state"] == DeliveryState.DELIVERED:
                self._confirm(row)
                return ""
            return self._send(row)
        except TransitionError:
            # A person ended it, or asked for a try of its own, which finds out by itself what is there.
            self._log("delivery was moved meanwhile", **_fields(row))
            return ""

    def _go_on(self, called: str, fault: str) -> None:
        """Send all that is due to a destination; while it cannot be reached, let it all wait for the same reason."""
        made: set[tuple[str, str, int]] = set()
        while due := [row for row in self._ledger.due_deliveries(called) if _key(row) not in made]:
            for row in due:
                made.add(_key(row))
                fault = self._let_wait(row, fault) if fault else self._try(row)

    def _let_wait(self, row: Row, fault: str) -> str:
        """Let a delivery wait without a call of its own."""
        try:
            self._wait(row, fault, self._carrier.plan(row["destination"]), waits_for=_DESTINATION)
        except (TransitionError, NodeError):
            # A person moved it, or the configuration lost the destination: its own task says so.
            self._log("delivery was moved meanwhile", **_fields(row))
        return fault

    # Sending ---------------------------------------------------------------------------------------------------------

    def _send(self, row: Row) -> str:
        outputs = {one["sop_instance_uid"]: one for one in self._ledger.outputs(row["job"])}
        offers = [[self._results / outputs[uid]["path"] for uid in offer] for offer in row["offers"]]
        started = self._now()
        try:
            plan = self._carrier.plan(row["destination"])
        except NodeError as error:
            # A destination that the configuration no longer has: a slip there must not lose a result.
            self._wait(row, error.reason, DeliveryPlan())
            return ""
        try:
            receipts = self._carrier.store(_called(row), offers)
        except NodeError as error:
            waits_for = _waits_for(error)
            self._wait(row, error.reason, plan, waits_for=waits_for)
            return error.reason if waits_for else ""
        except OSError as error:
            self._wait(row, f"A stored result cannot be read: {error.strerror}.", plan)
        else:
            said = _not_the_best(row, outputs, receipts)
            self._conclude(row, receipts, plan, took_s=self._now() - started, said=said)
        return ""

    def _conclude(
        self, row: Row, receipts: Sequence[StoreReceipt], plan: DeliveryPlan, *, took_s: float, said: str
    ) -> None:
        kept = [asdict(receipt) for receipt in receipts]
        refused = [receipt for receipt in receipts if receipt.outcome == "refused"]
        if not refused:
            self._delivered(row, reason=said, receipts=kept, took_s=took_s)
        elif all(receipt.worth_retrying for receipt in refused):
            self._wait(row, refused[0].reason, plan, receipts=kept)
        else:
            final = next(receipt for receipt in refused if not receipt.worth_retrying)
            self._end(row, DeliveryState.REFUSED, reason=final.reason, receipts=kept)

    def _delivered(self, row: Row, **facts: object) -> None:
        confirm = self._carrier.plan(_called(row)).confirm
        # What was proven of an earlier sending says nothing of this one.
        facts["confirmed_at"] = None
        if not confirm:
            self._end(row, DeliveryState.DELIVERED, confirmation={}, **facts)
            return
        # What is looked for must be indexed first; a commitment is promised when the destination has found the time.
        delay_s = self._policy.first_retry_s if confirm == "find" else 0.0
        self._log("delivery delivered", **_fields(row), reason=facts["reason"], to_be_confirmed_by=confirm)
        self._again(row, DeliveryState.DELIVERED, delay_s, via=row["via"], confirmation={"by": confirm}, **facts)

    def _wait(
        self,
        row: Row,
        reason: str,
        plan: DeliveryPlan,
        *,
        waits_for: str = "",
        receipts: Sequence[Row] = (),
    ) -> None:
        age_s = self._now() - row["created_at"]
        if age_s > self._policy.give_up_after_s:
            self._end(row, DeliveryState.GIVEN_UP, reason=reason, receipts=list(receipts))
            return
        if row["via"] is None and plan.fail_over and age_s >= plan.fail_over_after_s:
            via, delay_s = plan.fail_over, 0.0
        else:
            via, delay_s = None, self._policy.delay_s(row["attempt"])
        facts = {"reason": reason, "receipts": list(receipts), "waits_for": waits_for}
        self._again(row, DeliveryState.WAITING, delay_s, via=via, **facts)
        more = {} if via is None else {"fails_over_to": via}
        self._log("delivery waits", **_fields(row), again_in_s=delay_s, reason=reason, **more)

    # Proof -----------------------------------------------------------------------------------------------------------

    def _confirm(self, row: Row) -> None:
        try:
            confirm = self._carrier.plan(_called(row)).confirm
            if not confirm:
                # The configuration asks for no proof any more.
                self._end(row, DeliveryState.DELIVERED, reason=row["reason"], confirmation={})
            elif self._now() - row["created_at"] > self._policy.give_up_after_s:
                said = row["reason"] or "no answer came"
                self._end(row, DeliveryState.DELIVERED, reason=f"never confirmed: {said}")
            elif confirm == "commitment":
                self._confirm_by_commitment(row)
            else:
                self._confirm_by_find(row)
        except NodeError as error:
            said = f"not confirmed: {error.reason}"
            self._ask_again(row, said, self._policy.delay_s(row["attempt"]), waits_for=_waits_for(error))
        except OSError as error:
            said = f"A stored result cannot be read: {error.strerror}."
            self._ask_again(row, said, self._policy.delay_s(row["attempt"]))

    def _confirm_by_commitment(self, row: Row) -> None:
        job, destination = row["job"], row["destination"]
        if not row["confirmation"].get("failed"):
            transaction_uid = derived_uid("storage commitment", job, _called(row), str(row["attempt"]))
            # Before it is asked: the report may be here before the answer.
            self._ledger.ask_commitment(job, destination, transaction_uid)
            objects = {one["sop_instance_uid"]: one["sop_class_uid"] for one in row["receipts"]}
            report = self._carrier.request_commitment(_called(row), transaction_uid, objects)
            if report is not None:
                self._ledger.commitment_reported(report)
            row = self._ledger.delivery(job, destination) or row
        failed = row["confirmation"].get("failed")
        if row["confirmed_at"] is not None:
            self._log("delivery confirmed", **_fields(row), by="commitment")
        elif failed:
            self._send_again(row, f"{len(failed)} objects are not kept: {next(iter(failed.values()))}")
        else:
            self._ask_again(row, "", self._policy.commitment_timeout_s)

    def _confirm_by_find(self, row: Row) -> None:
        outputs = {one["sop_instance_uid"]: one for one in self._ledger.outputs(row["job"])}
        files = [self._results / outputs[one["sop_instance_uid"]]["path"] for one in row["receipts"]]
        missing = self._carrier.missing_of(_called(row), files)
        misses = row["confirmation"].get("misses", 0) + 1
        said = f"{len(missing)} of {len(files)} objects are not found (C-FIND)"
        if not missing:
            proof = {"by": "find", "at": self._now()}
            self._end(row, DeliveryState.DELIVERED, reason="", confirmation=proof, confirmed_at=self._now())
            self._log("delivery confirmed", **_fields(row), by="find")
        elif misses >= _FINDS_BEFORE_SENDING_AGAIN:
            self._send_again(row, said)
        else:
            confirmation = {"by": "find", "misses": misses, "at": self._now()}
            self._ask_again(row, said, self._policy.delay_s(misses), confirmation=confirmation)

    def _ask_again(self, row: Row, reason: str, delay_s: float, **facts: object) -> None:
        told = {"reason": reason, "waits_for": "", **facts}
        self._again(row, DeliveryState.DELIVERED, delay_s, via=row["via"], **told)
        if reason:
            self._log("delivery not confirmed", **_fields(row), again_in_s=delay_s, reason=reason)

    def _send_again(self, row: Row, reason: str) -> None:
        delay_s = self._policy.delay_s(row["attempt"])
        facts = {"reason": reason, "confirmation": {}, "waits_for": ""}
        self._again(row, DeliveryState.WAITING, delay_s, via=row["via"], **facts)
        self._log("delivery is sent again", **_fields(row), in_s=delay_s, reason=reason)

    # -----------------------------------------------------------------------------------------------------------------

    def _again(self, row: Row, state: DeliveryState, delay_s: float, *, via: str | None, **facts: object) -> None:
        """Enqueue the next try, with what is known now."""
        job, destination, attempt = row["job"], row["destination"], row["attempt"] + 1
        told = {"attempt": attempt, "next_attempt_at": self._now() + delay_s, "via": via, **facts}
        enqueue = self._queue.deliver(job, destination, attempt=attempt, delay_s=delay_s, via=via)
        self._ledger.move_delivery(job, destination, state, told, enqueue, at_attempt=row["attempt"])

    def _end(self, row: Row, state: DeliveryState, **facts: object) -> None:
        ended = {"reason": "", "next_attempt_at": None, "waits_for": "", **facts}
        self._ledger.move_delivery(row["job"], row["destination"], state, ended, None, at_attempt=row["attempt"])
        self._log(f"delivery {state}", **_fields(row), reason=ended["reason"])


def _called(row: Row) -> str:
    """Give the destination that is called: the delivery's own, or that which it fails over to."""
    return str(row["via"] or row["destination"])


def _key(row: Row) -> tuple[str, str, int]:
    return row["job"], row["destination"], row["attempt"]


def _waits_for(error: NodeError) -> str:
    return _DESTINATION if isinstance(error, UnreachableError) else ""


def _fields(row: Row) -> dict[str, object]:
    return {"job": row["job"], "destination": row["destination"], "attempt": row["attempt"]}


def _not_the_best(row: Row, outputs: Mapping[str, Row], receipts: Sequence[StoreReceipt]) -> str:
    """Say that the destination did not take the form that was wanted for it; empty where it did."""
    best = row["offers"][0]
    sent = [one.sop_instance_uid for one in receipts]
    wanted = [outputs[uid]["form"] for uid in best if uid not in sent and outputs[uid]["kind"] == "seg"]
    given = [outputs[uid]["form"] for uid in sent if uid not in best and outputs[uid]["kind"] == "seg"]
    return f"it takes no {wanted[0]} Segmentation, {given[0]} was sent" if wanted and given else ""
