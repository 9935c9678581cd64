"""Deliver: one try to send a job's objects to one destination; a failed try enqueues the next and holds no worker."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from node.domain.delivery import StoreReceipt
from node.domain.errors import NodeError
from node.domain.jobs import UNFINISHED_DELIVERIES, DeliveryState, retry_delay_s
from node.stages.ports import DeliveryLedger, Log, Queue, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """From ``[delivery]`` in the configuration."""

    first_retry_s: float
    longest_retry_s: float
    give_up_after_s: float


class Deliverer:
    """Sends results.

    Parameters
    ----------
    store
        Sends to a destination, by its name, the first of several sets of files that it takes whole, else that of which
        it takes most; raises NodeError where it cannot be talked to.
    results
        The folder that the outputs' paths are relative to.
    """

    def __init__(
        self,
        *,
        ledger: DeliveryLedger,
        queue: Queue,
        store: Callable[[str, Sequence[Sequence[Path]]], Sequence[StoreReceipt]],
        policy: RetryPolicy,
        results: Path,
        now: Callable[[], float],
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._store = store
        self._policy = policy
        self._results = results
        self._now = now
        self._log = log

    def __call__(self, job: str, destination: str, attempt: int) -> None:
        """Make try number ``attempt``; does nothing if that try has been made."""
        row = self._ledger.delivery(job, destination)
        if row is None or row["state"] not in UNFINISHED_DELIVERIES or row["attempt"] != attempt:
            return
        outputs = {one["sop_instance_uid"]: one for one in self._ledger.outputs(job)}
        offers = [[self._results / outputs[uid]["path"] for uid in offer] for offer in row["offers"]]
        started = self._now()
        try:
            receipts = self._store(destination, offers)
        except NodeError as error:
            # Also a destination that the configuration no longer has: a slip there must not lose a result.
            self._wait(row, error.reason, [])
        except OSError as error:
            self._wait(row, f"A stored result cannot be read: {error.strerror}.", [])
        else:
            self._conclude(row, receipts, took_s=self._now() - started, said=_not_the_best(row, outputs, receipts))

    def _conclude(self, row: Row, receipts: Sequence[StoreReceipt], *, took_s: float, said: str) -> None:
        kept = [asdict(receipt) for receipt in receipts]
        refused = [receipt for receipt in receipts if receipt.outcome == "refused"]
        if not refused:
            self._end(row, DeliveryState.DELIVERED, reason=said, receipts=kept, took_s=took_s)
        elif all(receipt.worth_retrying for receipt in refused):
            self._wait(row, refused[0].reason, kept)
        else:
            final = next(receipt for receipt in refused if not receipt.worth_retrying)
            self._end(row, DeliveryState.REFUSED, reason=final.reason, receipts=kept)

    def _end(self, row: Row, state: DeliveryState, **facts: object) -> None:
        job, destination = row["job"], row["destination"]
        ended = {"reason": "", "next_attempt_at": None, **facts}
        self._ledger.move_delivery(job, destination, state, ended, None)
        self._log(f"delivery {state}", job=job, destination=destination, attempt=row["attempt"], reason=ended["reason"])

    def _wait(self, row: Row, reason: str, receipts: Sequence[Row]) -> None:
        job, destination, attempt = row["job"], row["destination"], row["attempt"]
        now = self._now()
        if now - row["created_at"] > self._policy.give_up_after_s:
            self._end(row, DeliveryState.GIVEN_UP, reason=reason, receipts=list(receipts))
            return
        delay_s = retry_delay_s(attempt, first_s=self._policy.first_retry_s, longest_s=self._policy.longest_retry_s)
        facts = {
            "reason": reason,
            "attempt": attempt + 1,
            "next_attempt_at": now + delay_s,
            "receipts": list(receipts),
        }
        enqueue = self._queue.deliver(job, destination, attempt=attempt + 1, delay_s=delay_s)
        self._ledger.move_delivery(job, destination, DeliveryState.WAITING, facts, enqueue)
        self._log(
            "delivery waits", job=job, destination=destination, attempt=attempt, again_in_s=delay_s, reason=reason
        )


def _not_the_best(row: Row, outputs: Mapping[str, Row], receipts: Sequence[StoreReceipt]) -> str:
    """Say that the destination did not take the form that was wanted for it; empty where it did."""
    best = row["offers"][0]
    sent = [one.sop_instance_uid for one in receipts]
    wanted = [outputs[uid]["form"] for uid in best if uid not in sent and outputs[uid]["kind"] == "seg"]
    given = [outputs[uid]["form"] for uid in sent if uid not in best and outputs[uid]["kind"] == "seg"]
    return f"it takes no {wanted[0]} Segmentation, {given[0]} was sent" if wanted and given else ""
