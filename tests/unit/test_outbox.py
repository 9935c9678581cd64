"""The watch over the outbox: who is probed, what is let go, who hears of it; the clock is ours."""

from collections.abc import Callable
from typing import Any

from node.domain.delivery import DeliveryPlan
from node.domain.jobs import DeliveryState
from node.stages.outbox import OutboxWatch, WatchPolicy
from tests.unit.test_deliver import FakeCarrier, FakeLedger, FakeQueue, never

HOUR_S = 3600.0
POLICY = WatchPolicy(first_probe_s=2.0, longest_probe_s=30.0, alarm_after_s=4 * HOUR_S)


class Scene:
    """An outbox with deliveries, destinations, and a clock that stands still."""

    def __init__(self, *rows: dict[str, Any], **plans: DeliveryPlan) -> None:
        self.now = 1000.0
        self.rows = [FakeLedger(**row).row for row in rows]
        self.carrier = FakeCarrier(never, plans)
        self.enqueued: list[Any] = []
        self.alarms: list[str] = []
        self.watch = OutboxWatch(
            ledger=self,
            queue=FakeQueue(),
            carrier=self.carrier,
            policy=POLICY,
            now=lambda: self.now,
            log=lambda *_, **__: None,
            start=self.start,
        )

    def start(self, run: Callable[[], None]) -> None:
        run()

    def unfinished_deliveries(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows]

    def release_deliveries(self, releases: Any) -> int:
        for row, facts, enqueue in releases:
            own = next(one for one in self.rows if one["job"] == row["job"])
            own |= {**facts, "attempt": row["attempt"] + 1, "next_attempt_at": self.now}
            enqueue(self.enqueued)
        return len(releases)

    def alarm_delivery(self, job: str, destination: str, text: str) -> None:
        next(one for one in self.rows if one["job"] == job)["alarmed_at"] = self.now
        self.alarms.append(text)

    def pass_s(self, seconds: float) -> None:
        """Let time pass, with a look every second."""
        until = self.now + seconds
        while self.now < until:
            self.now += 1.0
            self.watch.tick()


def waiting(job: str = "job", **facts: Any) -> dict[str, Any]:
    row = {"state": DeliveryState.WAITING, "attempt": 9, "next_attempt_at": 1000.0 + HOUR_S, "created_at": 900.0}
    return {"job": job, "waits_for": "destination", "reason": "tps does not answer", **row, **facts}


def test_all_that_waits_for_a_destination_goes_at_once_when_it_answers() -> None:
    scene = Scene(*(waiting(f"job {number}") for number in range(120)))

    scene.pass_s(5)

    assert len(scene.enqueued) == 120
    assert scene.enqueued[0] == ("job 0", "tps", 10, 0.0, None)
    assert scene.carrier.probed == ["tps"]


def test_while_it_is_down_it_is_probed_ever_later_and_nothing_is_let_go() -> None:
    scene = Scene(waiting())
    scene.carrier.down = {"tps"}

    scene.pass_s(600)

    # 2, 4, 8, 16 and then every 30 s.
    assert 18 <= len(scene.carrier.probed) <= 24
    assert scene.enqueued == []


def test_it_goes_within_the_longest_pause_between_probes_after_it_is_back() -> None:
    scene = Scene(waiting())
    scene.carrier.down = {"tps"}
    scene.pass_s(600)

    scene.carrier.down = set()
    scene.pass_s(POLICY.longest_probe_s + 2)

    assert scene.enqueued == [("job", "tps", 10, 0.0, None)]


def test_what_the_destination_itself_refused_waits_for_its_time() -> None:
    scene = Scene(waiting(waits_for=""))

    scene.pass_s(120)

    assert scene.carrier.probed == []
    assert scene.enqueued == []


def test_a_try_that_is_due_anyway_is_not_made_twice() -> None:
    scene = Scene(waiting(next_attempt_at=1000.5))

    scene.pass_s(120)

    assert scene.enqueued == []


def test_a_probe_that_hangs_holds_up_no_other_destination() -> None:
    scene = Scene(waiting("to tps"), waiting("to pacs", destination="pacs"))
    running: list[Callable[[], None]] = []
    scene.watch = OutboxWatch(
        ledger=scene,
        queue=FakeQueue(),
        carrier=scene.carrier,
        policy=POLICY,
        now=lambda: scene.now,
        log=lambda *_, **__: None,
        start=running.append,
    )

    scene.pass_s(5)
    assert len(running) == 2
    running[1]()  # that of tps hangs
    scene.pass_s(2)

    assert [job for job, *_ in scene.enqueued] == ["to pacs"]


def test_where_the_other_answers_first_what_may_fail_over_goes_there() -> None:
    scene = Scene(waiting(), tps=DeliveryPlan(fail_over="other", fail_over_after_s=60.0))
    scene.carrier.down = {"tps"}

    scene.pass_s(10)

    assert scene.enqueued == [("job", "tps", 10, 0.0, "other")]


def test_a_report_of_objects_that_are_not_kept_is_acted_upon_at_once_and_once() -> None:
    row = waiting(state=DeliveryState.DELIVERED, waits_for="", confirmation={"failed": {"1.1": "not there"}})
    scene = Scene(row)

    scene.pass_s(1)

    assert scene.enqueued == [("job", "tps", 10, 0.0, None)]
    scene.rows[0]["confirmation"] = {}
    scene.pass_s(10)
    assert len(scene.enqueued) == 1


def test_people_hear_once_of_what_is_overdue() -> None:
    scene = Scene(waiting(created_at=1000.0 - 3.9 * HOUR_S))
    scene.carrier.down = {"tps"}

    scene.pass_s(300)
    assert scene.alarms == []
    scene.pass_s(300)

    assert scene.alarms == ["Not delivered for 4.0 hours: tps does not answer"]
