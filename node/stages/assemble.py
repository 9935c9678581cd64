"""Assemble: from instances in the inbox to a judged series, and from a whole series to its jobs.

Holds no state that matters: what it remembers is read again from the files after a restart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

from node.domain.errors import InputError, place_of
from node.domain.instance import ReceivedInstance
from node.domain.jobs import SeriesState
from node.domain.routing import Accepted, Declined, Route, decide
from node.domain.series import (
    AssociationFact,
    Complete,
    CompletionPolicy,
    Growing,
    SeriesFacts,
    SeriesManifest,
    Stalled,
    Verdict,
    assess,
    manifest_to_json,
)
from node.stages.ports import Log, Queue, Row, SeriesFolder, SeriesLedger, all_of

# A disk that fails may come back; nobody else says when.
_AFTER_A_FAULT_S = 30.0


@dataclass(kw_only=True)
class _Watched:
    """What is remembered of one series between two looks."""

    stamp: str = ""
    associations: tuple[AssociationFact, ...] = ()
    instances: dict[str, ReceivedInstance] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    look_again_at: float = 0.0


class Assembler:
    """Looks at every series in the inbox and writes its verdict.

    Parameters
    ----------
    read_instance
        Reads the facts of one stored file; raises InputError.
    jobs_of
        Gives the jobs (columns of the job table) for a manifest on a route.
    """

    def __init__(
        self,
        *,
        inbox: SeriesFolder,
        ledger: SeriesLedger,
        queue: Queue,
        routes: Sequence[Route],
        policy: CompletionPolicy,
        read_instance: Callable[[Path], ReceivedInstance],
        log: Log,
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._queue = queue
        self._routes = routes
        self._policy = policy
        self._read_instance = read_instance
        self._log = log
        self._watched: dict[str, _Watched] = {}
        # Series whose verdict stands until their folder changes: series -> stamp.
        self._settled: dict[str, str] = {}
        self._seen_association = ledger.latest_association()

    def tick(self, now: float) -> None:
        """Look at every series that changed, was sent again, or whose time has come."""
        self._unsettle_what_was_sent_again()
        for series_uid in self._inbox.series_uids():
            stamp = self._inbox.stamp(series_uid)
            if self._settled.get(series_uid) == stamp:
                continue
            watched = self._watched.get(series_uid)
            if watched is None:
                row = self._ledger.series(series_uid)
                if row and row["stamp"] == stamp and row["state"] != SeriesState.RECEIVING:
                    self._settled[series_uid] = stamp
                    continue
                watched = self._watched.setdefault(series_uid, _Watched())
            associations = self._ledger.associations_of(series_uid)
            changed = watched.stamp != stamp or watched.associations != associations
            if changed or now >= watched.look_again_at:
                watched.stamp, watched.associations = stamp, associations
                self._look(series_uid, watched, now)

    def _unsettle_what_was_sent_again(self) -> None:
        """Judge anew what somebody sends again, though no file changes: the routes may have."""
        latest = self._ledger.latest_association()
        if latest > self._seen_association:
            for series_uid in self._ledger.series_sent_since(self._seen_association):
                if self._settled.pop(series_uid, None) is not None:
                    self._watched.setdefault(series_uid, _Watched())
            self._seen_association = latest

    def _look(self, series_uid: str, watched: _Watched, now: float) -> None:
        verdict = self._judge(series_uid, watched, now)
        instances, associations = tuple(watched.instances.values()), watched.associations
        known: Row = {
            "stamp": watched.stamp,
            "instances": len(instances),
            "modality": instances[0].modality if instances else "",
            "calling_ae_titles": sorted({association.calling_ae_title for association in associations}),
            "first_instance_at": min((instance.received_at for instance in instances), default=None),
            "last_instance_at": max((instance.received_at for instance in instances), default=None),
            "look_again_at": None,
            "reason": "",
        }
        match verdict:
            case Growing():
                watched.look_again_at = verdict.look_again_at
                growing = {
                    **known,
                    "state": SeriesState.RECEIVING,
                    "reason": verdict.waiting_for,
                    "look_again_at": verdict.look_again_at,
                }
                self._ledger.note_series(series_uid, growing)
                return
            case Stalled():
                self._decline(series_uid, known, _with_unreadable(verdict.reason, watched.unreadable))
            case Complete():
                if watched.unreadable:
                    self._decline(series_uid, known, _with_unreadable("", watched.unreadable))
                else:
                    self._complete(series_uid, known, verdict, now)
            case _:
                assert_never(verdict)
        self._settled[series_uid] = watched.stamp
        del self._watched[series_uid]

    def _judge(self, series_uid: str, watched: _Watched, now: float) -> Verdict:
        try:
            self._read_new(series_uid, watched)
            facts = SeriesFacts(
                series_instance_uid=series_uid,
                instances=tuple(watched.instances.values()),
                associations=watched.associations,
                refused=self._ledger.refused_of(series_uid),
            )
            return assess(facts, now, self._policy)
        except Exception as error:  # the stage's loop: one series that cannot be judged must not hold up the others
            fault = type(error).__name__
            self._log("series cannot be judged", series=series_uid, fault=fault, at=place_of(error))
            cause = error.strerror if isinstance(error, OSError) and error.strerror else fault
            reason = f"it cannot be judged ({cause}; see the log) and is looked at again and again"
            return Growing(look_again_at=now + _AFTER_A_FAULT_S, waiting_for=reason)

    def _read_new(self, series_uid: str, watched: _Watched) -> None:
        for name in self._inbox.file_names(series_uid):
            if name in watched.instances or name in watched.unreadable:
                continue
            try:
                watched.instances[name] = self._read_instance(self._inbox.path(series_uid, name))
            except InputError as error:
                watched.unreadable[name] = error.reason

    def _decline(self, series_uid: str, known: Row, reason: str) -> None:
        self._ledger.note_series(series_uid, {**known, "state": SeriesState.DECLINED, "reason": reason})
        self._log("series declined", series=series_uid, instances=known["instances"], reason=reason)

    def _complete(self, series_uid: str, known: Row, verdict: Complete, now: float) -> None:
        manifest = verdict.manifest
        judged = {
            **known,
            "evidence": list(verdict.evidence),
            "left_out": [{"sop_instance_uid": one.sop_instance_uid, "reason": one.reason} for one in manifest.left_out],
            "fingerprint": manifest.fingerprint,
            "complete_at": now,
        }
        decision = decide(self._routes, manifest.attributes)
        match decision:
            case Declined():
                self._decline(series_uid, judged, decision.reason)
            case Accepted():
                self._accept(series_uid, judged, manifest, decision.route)
            case _:
                assert_never(decision)

    def _accept(self, series_uid: str, judged: Row, manifest: SeriesManifest, route: Route) -> None:
        jobs = [job_of(manifest, route, model) for model in route.models]
        enqueues = [self._queue.contour(job["job"]) for job in jobs]
        accepted = {**judged, "state": SeriesState.COMPLETE, "route": route.name}
        self._ledger.accept_series(series_uid, accepted, manifest_to_json(manifest), jobs, all_of(enqueues))
        self._log("series complete", series=series_uid, instances=judged["instances"], route=route.name, jobs=len(jobs))


def job_of(manifest: SeriesManifest, route: Route, model: str, run_number: int = 1) -> dict[str, Any]:
    """Give the columns of the job that contours a manifest with a model; the key is deterministic."""
    return {
        "job": f"{manifest.series_instance_uid}/{manifest.fingerprint[:16]}/{model}/{run_number}",
        "series_uid": manifest.series_instance_uid,
        "fingerprint": manifest.fingerprint,
        "route": route.name,
        "model": model,
        "outputs": list(route.outputs),
        "destinations": list(route.destinations),
        "run_number": run_number,
    }


def _with_unreadable(reason: str, unreadable: dict[str, str]) -> str:
    if not unreadable:
        return reason
    first = next(iter(unreadable.values()))
    return f"{reason} {len(unreadable)} stored file(s) cannot be read, the first: {first}".strip()
