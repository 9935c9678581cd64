"""One storm, from its first cloud to what is found after it."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.adapters.ledger import Ledger
from node.domain.errors import NodeError
from node.domain.jobs import SeriesState
from node.opening import Node
from node.status import status_of
from scripts.storms.blows import Blows
from scripts.storms.destinations import Flapping, flapping_folder, flapping_scp
from scripts.storms.machine import Machine, Places
from scripts.storms.senders import Dropper, Promises, Sender, Weather, by_ourselves, by_storescu
from scripts.storms.verdict import Aftermath, Verdict, count_faults_told, judge
from tests.fakes import FakeDestination
from tests.model_packages import install

# A node that has more to do than this gets no new series for a while.
_BUSY_JOBS = 25
_LOOK_EVERY_S = 2.0
# Senders go on until everything is acknowledged; a receiver that died often starts again after half a minute.
_SENDERS_END_WITHIN_S = 240.0
# After the time at which the node itself says that it will go on: how long nothing may change.
_NOTHING_CHANGES_FOR_S = 200.0
_ALL_ENDS_WITHIN_S = 1200.0
# Raises where an index, or a row that it should point to, is damaged.
_CHECK_EVERY_INDEX = """\
SELECT bt_index_check(index => pg_class.oid, heapallindexed => true)
FROM pg_class JOIN pg_am ON pg_am.oid = relam
WHERE relkind = 'i' AND amname = 'btree' AND relpersistence = 'p'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Force:
    """How strong a storm is."""

    kills: int
    seed: int
    # Between two blows, on average.
    pause_s: float
    senders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the storm rages over."""

    machines: Sequence[str] = ("a",)
    # Address of a PostgreSQL database that the machines share, and what restarts its server at once.
    database: str = ""
    restart_database: Callable[[], None] | None = None


class Storm:
    """Everything that acts on a node, and the node.

    Parameters
    ----------
    tell
        Told a line of progress now and then.
    """

    def __init__(self, folder: Path, force: Force, site: Site, tell: Callable[[str], None]) -> None:
        self._force, self._site, self._tell = force, site, tell
        self._places = Places(folder=folder)
        for made in (self._places.sent, self._places.drop, self._places.shelf, folder / "staging"):
            made.mkdir()
        install(self._places.models)
        self._tps = FakeDestination()
        self._machines = [
            Machine(name, self._places, database=site.database, destination_port=self._tps.address.port)
            for name in site.machines
        ]
        self._promises = Promises()
        self._calm, self._end = threading.Event(), threading.Event()
        self._unfinished = 0

    def rage(self) -> Verdict:
        """Let it rage, wait until the node has done what it can, and look at what is left."""
        started = time.monotonic()
        with self._tps:
            try:
                for machine in self._machines:
                    machine.start()
                ledger = Node(config=self._machines[0].config, process="storm").ledger
                blows = Blows(self._machines, ledger, self._chance("blows"), self._site.restart_database)
                all_sent = self._storm(ledger, blows)
                raged_s = time.monotonic() - started
                said = self._wait_for_the_end(ledger)
            finally:
                self._end.set()
                statuses = [machine.rest() for machine in self._machines]
        verdict = self._judge(ledger)
        verdict.expect(all_sent, f"senders waited in vain for {_SENDERS_END_WITHIN_S:g} s")
        verdict.expect(not said, said)
        verdict.expect(set(statuses) == {0}, f"the node ended with {statuses} when it was told to")
        time_s = {"seconds of storm": round(raged_s), "seconds until all was done": round(time.monotonic() - started)}
        if verdict.faults:  # a server's database goes with the storm
            (self._places.folder / "status.json").write_text(json.dumps(status_of(ledger), indent=1, default=str))
        verdict.figures = {"blows": blows.count, **_prefixed("  ", blows.struck), **time_s, **verdict.figures}
        return verdict

    def _chance(self, of: str) -> random.Random:
        return random.Random(f"{self._force.seed}/{of}")

    # The storm -------------------------------------------------------------------------------------------------------

    def _storm(self, ledger: Ledger, blows: Blows) -> bool:
        """Let blows fall while senders send; gives whether, afterwards, all that they had begun was acknowledged."""
        senders, flapping = self._senders(), self._flapping()
        watching = threading.Thread(target=self._watch, args=(ledger, blows), daemon=True)
        watching.start()
        chance = self._chance("moments")
        while blows.count < self._force.kills:
            time.sleep(chance.uniform(0.05, 2 * self._force.pause_s - 0.05))
            blows.strike()
        self._calm.set()
        for one in flapping:
            one.be_well()
            self._promises.courses.update(_prefixed("destination ", one.suffered))
        self._tell("the blows are over; senders finish")
        deadline = time.monotonic() + _SENDERS_END_WITHIN_S
        ended = [one.join(max(0.0, deadline - time.monotonic())) for one in senders]
        return all(ended)

    def _senders(self) -> Sequence[Sender | Dropper]:
        weather = Weather(
            places=self._places,
            promises=self._promises,
            addresses=[machine.address for machine in self._machines],
            calm=self._calm,
            end=self._end,
            is_busy=lambda: self._unfinished > _BUSY_JOBS,
        )
        seed = self._force.seed
        senders: list[Sender | Dropper] = [Dropper(weather, self._chance("dropper"), seed)]
        for number in range(self._force.senders):
            name, transmit = (f"DCMTK{number}", by_storescu) if number % 2 else (f"OURS{number}", by_ourselves)
            senders.append(Sender(name, transmit, weather, self._chance(name), seed))
        return senders

    def _flapping(self) -> Sequence[Flapping]:
        return (
            flapping_scp(self._tps, self._chance("tps")),
            flapping_folder(self._places, self._chance("shelf")),
        )

    def _watch(self, ledger: Ledger, blows: Blows) -> None:
        told_at = 0.0
        while not self._end.wait(_LOOK_EVERY_S):
            try:
                jobs, deliveries = ledger.unfinished_jobs(), ledger.unfinished_deliveries()
            except NodeError:  # the database is being restarted
                continue
            self._unfinished = len(jobs)
            if time.monotonic() - told_at > 10.0:
                told_at = time.monotonic()
                self._tell(
                    f"{blows.count} blows; {len(self._promises.whole)} series sent, {len(self._promises.acknowledged)} "
                    f"instances acknowledged; unfinished: {len(jobs)} jobs, {len(deliveries)} deliveries"
                )

    # Afterwards ------------------------------------------------------------------------------------------------------

    def _wait_for_the_end(self, ledger: Ledger) -> str:
        """Wait until nothing is left to do; says what hinders where that does not come."""
        last, changed_at = None, time.time()
        until = time.monotonic() + _ALL_ENDS_WITHIN_S
        while time.monotonic() < until:
            left, again_at = self._left_to_do(ledger)
            if not left:
                return ""
            if left != last:
                last, changed_at = left, time.time()
            if time.time() > max(changed_at, again_at) + _NOTHING_CHANGES_FOR_S:
                break
            time.sleep(1.0)
        return f"the node does not come to an end: {dict(last or {})} are left"

    def _left_to_do(self, ledger: Ledger) -> tuple[Counter[str], float]:
        """Count what is not done, and say when the node means to look at the last of it again."""
        series = {row["series_uid"]: row for row in ledger.all_series()}
        growing = [row for row in series.values() if row["state"] == SeriesState.RECEIVING]
        jobs, deliveries = ledger.unfinished_jobs(), ledger.unfinished_deliveries()
        left = Counter(f"job {row['state']}, attempt {row['attempt']}" for row in jobs)
        left += Counter(f"delivery {row['state']}, attempt {row['attempt']}" for row in deliveries)
        left += Counter(f"series of {row['instances']}" for row in growing)
        left["series unseen"] = sum(
            series.get(one.series_instance_uid, {}).get("instances") != len(one.files) for one in self._promises.whole
        )
        left["files in the hot folder"] = sum(path.is_file() for path in self._places.drop.rglob("*"))
        told = [row["look_again_at"] for row in growing] + [row["next_attempt_at"] for row in deliveries]
        return +left, max((at for at in told if at is not None), default=0.0)

    def _judge(self, ledger: Ledger) -> Verdict:
        config = self._machines[0].config
        verdict = judge(
            Aftermath(
                places=self._places,
                data_dir=config.node.data_dir,
                ledger=ledger,
                promises=self._promises,
                tps=self._tps,
            )
        )
        left_behind = [one for machine in self._machines for one in machine.left_behind()]
        verdict.expect(not left_behind, f"processes left behind: {left_behind}")
        said = _integrity(Node(config=config, process="storm"))
        verdict.expect(said == "ok", f"the database is damaged: {said}")
        told = count_faults_told(machine.log for machine in self._machines)
        endings = Counter(f"supervisor ended with {one}" for machine in self._machines for one in machine.endings)
        verdict.figures |= {
            **_prefixed("", self._promises.courses),
            **_prefixed("", endings),
            "database, checked": said,
            **_prefixed("log: ", told),
        }
        return verdict


def _integrity(node: Node) -> str:
    """Let the database look for damage in itself; gives "ok" or what it says."""
    with node.database.begin() as connection:
        if not node.is_shared:
            return "; ".join(row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check"))
        connection.exec_driver_sql("CREATE EXTENSION IF NOT EXISTS amcheck")
        connection.exec_driver_sql(_CHECK_EVERY_INDEX)
    return "ok"


def _prefixed(prefix: str, counts: Counter[str]) -> dict[str, int]:
    return {f"{prefix}{name}": count for name, count in sorted(counts.items())}
