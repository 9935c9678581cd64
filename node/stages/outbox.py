"""Watch over the outbox: what waits for a destination goes at once when that answers, and people hear what is overdue.

Holds nothing that matters: after a restart it looks at the ledger again and probes anew.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.domain.delivery import is_under_way
from node.domain.errors import NodeError, place_of
from node.domain.jobs import DeliveryState, retry_delay_s
from node.stages.delivery_ports import Carrier, OutboxLedger
from node.stages.ports import Enqueue, Log, Queue, Row

# A try that is due so soon need not be hurried.
_SOON_S = 1.0
# Let go in one transaction: others must get their turn to write, too.
_AT_A_TIME = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPolicy:
    """From ``[delivery]`` in the configuration."""

    first_probe_s: float
    longest_probe_s: float
    alarm_after_s: float


@dataclass(slots=True, kw_only=True)
class _Probe:
    """What is known of whether one destination answers."""

    at: float = 0.0
    failures: int = 0
    is_running: bool = False
    has_answered: bool = False


class OutboxWatch:
    """Looks at all that is under way, again and again.

    Parameters
    ----------
    start
        Runs something beside the caller: a destination that hangs must hold up nobody.
    """

    def __init__(
        self,
        *,
        ledger: OutboxLedger,
        queue: Queue,
        carrier: Carrier,
        policy: WatchPolicy,
        now: Callable[[], float],
        log: Log,
        start: Callable[[Callable[[], None]], Any] = lambda run: threading.Thread(target=run, daemon=True).start(),
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._carrier = carrier
        self._policy = policy
        self._now = now
        self._log = log
        self._start = start
        self._probes: dict[str, _Probe] = {}

    def tick(self) -> None:
        """Sound alarms, let go what need not wait any longer, and probe who is waited for."""
        rows = [row for row in self._ledger.unfinished_deliveries() if is_under_way(row)]
        self._alarm(rows)
        not_kept = [row for row in rows if row["confirmation"].get("failed") and not self._is_due(row)]
        self._release([(row, row["via"]) for row in not_kept])
        waiting: dict[str, list[Row]] = {}
        for row in rows:
            for destination in self._waits_for(row):
                waiting.setdefault(destination, []).append(row)
        for gone in self._probes.keys() - waiting.keys():
            del self._probes[gone]
        for destination, held in waiting.items():
            self._look_at(destination, held)

    def _alarm(self, rows: Sequence[Row]) -> None:
        for row in rows:
            age_s = self._now() - row["created_at"]
            if row["alarmed_at"] is None and age_s > self._policy.alarm_after_s:
                what = "confirmed" if row["state"] == DeliveryState.DELIVERED else "delivered"
                text = f"Not {what} for {age_s / 3600:.1f} hours: {row['reason'] or 'no answer yet'}"
                self._ledger.alarm_delivery(row["job"], row["destination"], text)
                self._log("delivery overdue", job=row["job"], destination=row["destination"], reason=row["reason"])

    def _waits_for(self, row: Row) -> list[str]:
        """Name the destinations whose answer would let a delivery go."""
        if row["waits_for"] != "destination" or self._is_due(row):
            return []
        if row["state"] == DeliveryState.DELIVERED:
            return [row["via"] or row["destination"]]
        try:
            plan = self._carrier.plan(row["destination"])
        except NodeError:
            return []
        is_due = plan.fail_over and self._now() - row["created_at"] >= plan.fail_over_after_s
        return [row["destination"], *([plan.fail_over] if is_due else [])]

    def _is_due(self, row: Row) -> bool:
        return row["next_attempt_at"] is None or bool(row["next_attempt_at"] < self._now() + _SOON_S)

    def _look_at(self, destination: str, held: Sequence[Row]) -> None:
        probe = self._probes.setdefault(destination, _Probe(at=self._now() + self._policy.first_probe_s))
        if probe.has_answered:
            del self._probes[destination]
            count = self._release([(row, _via(row, destination)) for row in held])
            self._log("destination answers", destination=destination, deliveries=count)
        elif not probe.is_running and self._now() >= probe.at:
            probe.is_running = True
            self._start(lambda: self._probe(destination, probe))

    def _probe(self, destination: str, probe: _Probe) -> None:
        try:
            self._carrier.probe(destination)
            probe.has_answered = True
        except NodeError:
            probe.failures += 1
        except Exception as error:  # a fault of the probing must not end it
            probe.failures += 1
            self._log("probing failed", destination=destination, fault=type(error).__name__, at=place_of(error))
        longest_s = self._policy.longest_probe_s
        first_s = self._policy.first_probe_s
        probe.at = self._now() + retry_delay_s(probe.failures + 1, first_s=first_s, longest_s=longest_s)
        probe.is_running = False

    def _release(self, rows: Sequence[tuple[Row, str | None]]) -> int:
        released = 0
        for start in range(0, len(rows), _AT_A_TIME):
            releases = [self._released(row, via) for row, via in rows[start : start + _AT_A_TIME]]
            released += self._ledger.release_deliveries(releases)
        return released

    def _released(self, row: Row, via: str | None) -> tuple[Row, Mapping[str, Any], Enqueue]:
        enqueue = self._queue.deliver(row["job"], row["destination"], attempt=row["attempt"] + 1, via=via)
        return row, {"via": via, "waits_for": ""}, enqueue


def _via(row: Row, answered: str) -> str | None:
    return None if answered == row["destination"] else answered
