"""What is left of the node's promises after a storm, looked at in files and tables."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.adapters.ledger import Ledger
from node.domain.jobs import DeliveryState, JobState, SeriesState
from scripts.storms.machine import Places
from scripts.storms.senders import Promises
from scripts.storms.series import Series
from tests.fakes import FakeDestination
from tests.raw_sender import data_set_of

Row = Mapping[str, Any]

# Of a log line the event without its fields, or of a library's line the place in it.
_EVENT = re.compile(
    r"^[^[\n]*\[ *(?:info|warning|error) *\] (?P<event>\([\w:.]+\)|.*?(?= \w+=|$))", re.MULTILINE | re.IGNORECASE
)
_TELLS = re.compile(r"failed|fault|cannot|\.py:")


@dataclass(kw_only=True)
class Verdict:
    """Figures, and everything that is not as promised."""

    figures: dict[str, int | float | str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: bool, fault: str) -> None:
        """Note a fault unless something holds."""
        if not holds:
            self.faults.append(fault)


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What is left to be looked at once the node rests."""

    places: Places
    data_dir: Path
    ledger: Ledger
    promises: Promises
    tps: FakeDestination


def judge(left: Aftermath) -> Verdict:
    """Compare what is there with what was promised."""
    verdict = Verdict()
    _judge_instances(left, verdict)
    _judge_leftovers(left, verdict)
    jobs, deliveries = left.ledger.all_jobs(), left.ledger.all_deliveries()
    _judge_series(left, jobs, verdict)
    _judge_stuck(left.ledger, verdict)
    results = _stored_results(left, jobs, verdict)
    _judge_deliveries(left, jobs, deliveries, verdict)
    _judge_tps(left.tps, results, verdict)
    _judge_shelf(left.places.shelf, results, verdict)
    return verdict


# Received ------------------------------------------------------------------------------------------------------------


def _judge_instances(left: Aftermath, verdict: Verdict) -> None:
    kept: dict[str, list[Path]] = defaultdict(list)
    for path in (left.data_dir / "inbox").glob("[0-9]*/*.dcm"):
        kept[path.name.removesuffix(".dcm").rsplit(".", 1)[0]].append(path)
    lost = 0
    for source in left.promises.acknowledged:
        written = data_set_of(source)
        if not any(data_set_of(path) == written for path in kept[source.stem]):
            lost += 1
            verdict.faults.append(f"acknowledged, but not there with the same bytes: {source}")
    twice = [uid for uid, paths in kept.items() if len(paths) > 1]
    verdict.expect(not twice, f"kept in two files though the same was sent: {twice[:3]}")
    verdict.figures |= {
        "instances acknowledged": len(left.promises.acknowledged),
        "of these lost": lost,
        "instances in the inbox": sum(map(len, kept.values())),
    }


def _judge_leftovers(left: Aftermath, verdict: Verdict) -> None:
    unfinished = list((left.data_dir / "inbox/.incoming").rglob("*.part"))
    verdict.expect(not unfinished, f"unfinished files left in the inbox: {unfinished[:3]}")
    refused = list((left.data_dir / "inbox/rejected").glob("*.reason.txt"))
    verdict.expect(not refused, f"instances refused for good: {refused[:3]}")
    dropped = [path for path in left.places.drop.rglob("*") if path.is_file()]
    verdict.expect(not dropped, f"left in the hot folder: {dropped[:3]}")


# Series and jobs -----------------------------------------------------------------------------------------------------


def _judge_series(left: Aftermath, jobs: Sequence[Row], verdict: Verdict) -> None:
    known = {row["series_uid"]: row for row in left.ledger.all_series()}
    jobs_of: dict[str, list[Row]] = defaultdict(list)
    for job in jobs:
        jobs_of[job["series_uid"]].append(job)
    of_parts = 0
    for series in left.promises.whole:
        row = known.get(series.series_instance_uid)
        said = "unknown" if row is None else f"{row['state']}, {row['instances']} instances; {row['reason']}"
        whole = row is not None and row["state"] == SeriesState.COMPLETE and row["instances"] == len(series.files)
        verdict.expect(whole, f"series {series.series_instance_uid} of {len(series.files)} is {said}")
        of_parts += _judge_jobs(left.ledger, series, jobs_of[series.series_instance_uid], verdict)
    verdict.figures |= {
        "series sent whole": len(left.promises.whole),
        "jobs": len(jobs),
        "jobs on a part, before the rest came": of_parts,
        "of these superseded before they were done": sum(job["state"] == JobState.SUPERSEDED for job in jobs),
        "setbacks of jobs": sum(len(job["setbacks"]) for job in jobs),
    }


def _judge_jobs(ledger: Ledger, series: Series, jobs: Sequence[Row], verdict: Verdict) -> int:
    """Judge the jobs of one series: one on all of it, each on something else. Gives how many were on a part of it."""
    taken = [frozenset(ledger.manifest(job["series_uid"], job["fingerprint"])["files"]) for job in jobs]
    named = f"series {series.series_instance_uid}"
    verdict.expect(len(set(taken)) == len(taken), f"{named}: two jobs on the same instances")
    verdict.expect(taken.count(frozenset(series.files)) == 1, f"{named}: no job on all of its instances")
    for job, files in zip(jobs, taken, strict=True):
        if files == frozenset(series.files):
            verdict.expect(job["state"] == JobState.CONTOURED, f"job {job['job']} is {job['state']}: {job['reason']}")
        else:
            ended = files < frozenset(series.files) and job["state"] in (JobState.CONTOURED, JobState.SUPERSEDED)
            verdict.expect(ended, f"job {job['job']} on {len(files)} images is {job['state']}: {job['reason']}")
    return len(jobs) - taken.count(frozenset(series.files))


def _judge_stuck(ledger: Ledger, verdict: Verdict) -> None:
    for job in ledger.unfinished_jobs():
        verdict.faults.append(f"job {job['job']} is still {job['state']}: {job['reason'] or 'no reason given'}")
    for one in ledger.unfinished_deliveries():
        named = f"delivery of {one['job']} to {one['destination']}"
        verdict.faults.append(f"{named} is still {one['state']}: {one['reason'] or 'no reason given'}")


# Results -------------------------------------------------------------------------------------------------------------


def _stored_results(left: Aftermath, jobs: Iterable[Row], verdict: Verdict) -> dict[str, Path]:
    """Give where each result lies, by SOP Instance UID."""
    results: dict[str, Path] = {}
    for job in jobs:
        outputs = left.ledger.outputs(job["job"])
        if job["state"] == JobState.CONTOURED:
            kinds = sorted(one["kind"] for one in outputs)
            verdict.expect(kinds == ["rtstruct", "seg"], f"job {job['job']} has stored {kinds}")
        for one in outputs:
            path = left.data_dir / one["path"]
            verdict.expect(path.is_file(), f"the result {path} is not there")
            verdict.expect(one["sop_instance_uid"] not in results, f"two jobs made {one['sop_instance_uid']}")
            results[one["sop_instance_uid"]] = path
    verdict.figures["results stored"] = len(results)
    return results


def _judge_deliveries(left: Aftermath, jobs: Iterable[Row], deliveries: Sequence[Row], verdict: Verdict) -> None:
    made = {(one["job"], one["destination"]): one for one in deliveries}
    for job in jobs:
        if job["state"] != JobState.CONTOURED:
            continue
        uids = {one["sop_instance_uid"] for one in left.ledger.outputs(job["job"])}
        for destination in job["destinations"]:
            one = made.get((job["job"], destination))
            state = one["state"] if one is not None else "not there"
            named = f"delivery of {job['job']} to {destination}"
            verdict.expect(state == DeliveryState.DELIVERED, f"{named} is {state}")
            received = {receipt["sop_instance_uid"] for receipt in one["receipts"]} if one is not None else set()
            verdict.expect(received == uids, f"{named} has receipts for {len(received & uids)} of {len(uids)}")
    verdict.figures["deliveries"] = len(deliveries)
    verdict.figures["tries of deliveries"] = sum(one["attempt"] for one in deliveries)


def _judge_tps(tps: FakeDestination, results: Mapping[str, Path], verdict: Verdict) -> None:
    came: dict[str, list[bytes]] = defaultdict(list)
    for dataset, written in zip(tps.received, tps.received_bytes, strict=True):
        came[str(dataset.SOPInstanceUID)].append(written)
    for uid, copies in came.items():
        verdict.expect(uid in results, f"tps has {uid}, which no job made")
        verdict.expect(len(set(copies)) == 1, f"tps got {uid} with different bytes")
        if uid in results:
            verdict.expect(data_set_of(results[uid]) == copies[0], f"tps has other bytes of {uid} than are stored")
    missing = [uid for uid in results if uid not in came]
    verdict.expect(not missing, f"tps lacks {len(missing)} results: {missing[:3]}")
    verdict.figures["results at tps"] = len(came)
    verdict.figures["of these received again, the same bytes"] = sum(len(copies) - 1 for copies in came.values())


def _judge_shelf(shelf: Path, results: Mapping[str, Path], verdict: Verdict) -> None:
    there = {path.name.removesuffix(".dcm").split(".", 1)[1]: path for path in shelf.glob("*.dcm")}
    for uid, path in there.items():
        same = uid in results and results[uid].read_bytes() == path.read_bytes()
        verdict.expect(same, f"the folder's {path.name} is not what is stored")
    missing = [uid for uid in results if uid not in there]
    verdict.expect(not missing, f"the folder lacks {len(missing)} results: {missing[:3]}")
    partial = [path.name for path in shelf.iterdir() if not path.name.endswith(".dcm")]
    verdict.expect(not partial, f"half-written in the folder: {partial[:3]}")
    verdict.figures["results in the folder"] = len(there)


def count_faults_told(logs: Iterable[str]) -> Counter[str]:
    """Count the events in logs that tell of a fault: of the node itself, and what libraries say of theirs."""
    return Counter(found["event"] for log in logs for found in _EVENT.finditer(log) if _TELLS.search(found["event"]))
