"""Assemble: from instances in the inbox to a judged series, and from a whole series to its jobs.

Holds no state that matters: what it remembers is read again from the files after a restart.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never

from node.domain.associations import PASSED_ON_AFTER
from node.domain.counts import ask_archive_at
from node.domain.errors import InputError, place_of
from node.domain.evidence import ArchiveAnswer, RemovedImages
from node.domain.habits import Habits, habits_of, lessons_of
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
from node.domain.versions import several_contents
from node.stages.gather import Gatherer
from node.stages.new_jobs import job_of, superseded
from node.stages.ports import Archives, Log, Queue, Row, SeriesFolder, SeriesLedger, all_of

# A disk that fails may come back; nobody else says when.
_AFTER_A_FAULT_S = 30.0


@dataclass(kw_only=True)
class _Watched:
    """What is remembered of one series between two looks."""

    stamp: str = ""
    associations: tuple[AssociationFact, ...] = ()
    instances: dict[str, ReceivedInstance] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    # Images of it that were removed and did not all come again.
    removed: RemovedImages | None = None
    archive: ArchiveAnswer | None = None
    # Association -> instances of other series that it has sent since the last one of this series.
    elsewhere: dict[str, int] = field(default_factory=dict)
    elsewhere_since: float = 0.0
    # By the steady clock: when to look again, and since when nothing has come at most; the latter is not known where
    # this process did not see the series grow.
    look_again_at: float = 0.0
    quiet_since: float = float("-inf")
    # A person asked for the verdict at once.
    asked: bool = False

    @property
    def last_instance_at(self) -> float:
        return max((one.received_at for one in self.instances.values()), default=0.0)

    def now(self, now: float, steady: float) -> float:
        """Give the time by which to judge: now, unless the clock was put forward or back since the last instance.

        A silence is as long as the steady clock says, where this process saw the series grow. So a clock that jumps
        an hour ahead ends no series that is being sent, and one that is put back holds none up for an hour.
        """
        last = self.last_instance_at
        if now < last:
            self.quiet_since = steady if self.quiet_since == float("-inf") else self.quiet_since
            return last + steady - self.quiet_since
        return min(now, last + steady - self.quiet_since)

    @property
    def senders(self) -> list[str]:
        return sorted({one.calling_ae_title for one in self.associations})


class Assembler:
    """Looks at every series in the inbox and writes its verdict.

    Parameters
    ----------
    read_instance
        Reads the facts of one stored file; raises InputError.
    policy, policies
        How long to wait; ``policies`` by the name of the route, where that changes anything.
    archives
        Whom to ask how many instances a series has.
    """

    def __init__(
        self,
        *,
        inbox: SeriesFolder,
        ledger: SeriesLedger,
        queue: Queue,
        routes: Sequence[Route],
        policy: CompletionPolicy,
        policies: Mapping[str, CompletionPolicy],
        archives: Archives,
        read_instance: Callable[[Path], ReceivedInstance],
        log: Log,
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._queue = queue
        self._routes = routes
        self._policy = policy
        self._policies = policies
        self._archives = archives
        self._read_instance = read_instance
        self._log = log
        self._watched: dict[str, _Watched] = {}
        # Series whose verdict stands until their folder changes: series -> stamp.
        self._settled: dict[str, str] = {}
        self._seen_association = ledger.latest_association()
        self._gatherer = Gatherer(ledger=ledger, queue=queue, routes=routes, log=log)
        # Studies with a series that was judged since its images were gathered -> when to look. At the start also
        # those that wait: this process may have ended right after a series of them became whole.
        self._to_gather = dict.fromkeys(ledger.studies_that_wait(), float("-inf"))
        # By the steady clock.
        self._looked_at = float("-inf")

    def tick(self, now: float, steady: float | None = None) -> None:
        """Look at every series that changed, was sent again, or whose time has come; then at what belongs together.

        Parameters
        ----------
        now
            Seconds since the epoch.
        steady
            Seconds of a clock that nobody puts right; without it ``now`` is one.
        """
        steady = now if steady is None else steady
        self._look_at_all(now, steady)
        self._looked_at = steady
        self._gather(steady)

    def _look_at_all(self, now: float, steady: float) -> None:
        self._unsettle_what_was_sent_again()
        asked = self._ledger.series_asked_for()
        there = self._inbox.stamps()
        self._forget_all_but(there)
        for series_uid, stamp in there.items():
            if self._settled.get(series_uid) == stamp:
                continue
            watched = self._watched.get(series_uid)
            if watched is None:
                row = self._ledger.series(series_uid)
                if row and row["stamp"] == stamp and row["state"] != SeriesState.RECEIVING:
                    self._settled[series_uid] = stamp
                    continue
                watched = self._watched.setdefault(series_uid, _Watched())
            associations = self._associations_of(series_uid, watched)
            heard = self._archives.answer(series_uid)
            before = (watched.stamp, watched.associations, watched.archive)
            watched.asked = series_uid in asked
            if before != (stamp, associations, heard) or steady >= watched.look_again_at or watched.asked:
                if watched.stamp not in ("", stamp):
                    watched.quiet_since = self._looked_at
                watched.stamp, watched.associations, watched.archive = stamp, associations, heard
                self._look(series_uid, watched, now, steady)

    def _forget_all_but(self, there: Collection[str]) -> None:
        """Wait no longer for series whose folders somebody removed."""
        for series_uid in self._watched.keys() - set(there):
            gone = self._watched.pop(series_uid)
            self._to_gather |= {one.study_instance_uid: float("-inf") for one in gone.instances.values()}

    def _gather(self, steady: float) -> None:
        """Gather images of studies; after all series were looked at, so that every one that grows is known."""
        for study_uid in [uid for uid, look_at in self._to_gather.items() if look_at <= steady]:
            try:
                self._gatherer.gather(study_uid, self._growing(study_uid))
            except Exception as error:  # the stage's loop: one study must not hold up the others
                self._log("images cannot be gathered", study=study_uid, fault=type(error).__name__, at=place_of(error))
                self._to_gather[study_uid] = steady + _AFTER_A_FAULT_S
            else:
                del self._to_gather[study_uid]

    def _growing(self, study_uid: str) -> Iterator[ReceivedInstance]:
        for watched in self._watched.values():
            yield from (one for one in watched.instances.values() if one.study_instance_uid == study_uid)

    def _associations_of(self, series_uid: str, watched: _Watched) -> tuple[AssociationFact, ...]:
        """Give the associations that sent to a series; open ones with how much they have sent elsewhere since."""
        if watched.elsewhere_since != watched.last_instance_at:
            watched.elsewhere, watched.elsewhere_since = {}, watched.last_instance_at
        associations = self._ledger.associations_of(series_uid)
        elsewhere = watched.elsewhere
        for one in associations:
            if one.ending == "open":
                # What was judged meanwhile is watched no longer, but was sent.
                sent = self._sent_elsewhere(one, series_uid, watched.elsewhere_since)
                # Nor does a number beyond which nothing changes need another look.
                sent = min(sent, PASSED_ON_AFTER)
                elsewhere[one.association_id] = max(sent, elsewhere.get(one.association_id, 0))
        return tuple(replace(one, sent_elsewhere=elsewhere.get(one.association_id, 0)) for one in associations)

    def _sent_elsewhere(self, association: AssociationFact, series_uid: str, since: float) -> int:
        """Count the instances of other growing series that only this association can have sent."""
        sent = 0
        for other_uid in self._ledger.other_series_of(association.association_id, series_uid):
            other = self._watched.get(other_uid)
            if other and {one.association_id for one in other.associations} == {association.association_id}:
                sent += sum(one.received_at > since for one in other.instances.values())
        return sent

    def _unsettle_what_was_sent_again(self) -> None:
        """Judge anew what somebody sends again, though no file changes: the routes may have."""
        latest = self._ledger.latest_association()
        if latest > self._seen_association:
            for series_uid in self._ledger.series_sent_since(self._seen_association):
                if self._settled.pop(series_uid, None) is not None:
                    self._watched.setdefault(series_uid, _Watched())
            self._seen_association = latest

    def _look(self, series_uid: str, watched: _Watched, now: float, steady: float) -> None:
        verdict, judged_at = self._judge(series_uid, watched, now, steady)
        instances, associations = tuple(watched.instances.values()), watched.associations
        known: Row = {
            "stamp": watched.stamp,
            "instances": len(instances),
            "study_uid": instances[0].study_instance_uid if instances else None,
            "gathered": [],
            "modality": instances[0].modality if instances else "",
            "calling_ae_titles": sorted({association.calling_ae_title for association in associations}),
            "first_instance_at": min((instance.received_at for instance in instances), default=None),
            "last_instance_at": max((instance.received_at for instance in instances), default=None),
            "look_again_at": None,
            "asked": "",
            "reason": "",
            "evidence": [],
            "left_out": [],
        }
        if watched.removed is not None and not _missing(watched):
            known = {**known, "removed_at": None}
        match verdict:
            case Growing():
                wait_s = verdict.look_again_at - judged_at
                watched.look_again_at = steady + wait_s
                facts = {"reason": verdict.waiting_for, "look_again_at": now + wait_s}
                self._ledger.note_series(series_uid, {**known, **facts, "state": SeriesState.RECEIVING})
                return
            case Stalled():
                self._decline(series_uid, known, _with_unreadable(verdict.reason, watched.unreadable))
            case Complete():
                if watched.unreadable:
                    self._decline(series_uid, known, _with_unreadable("", watched.unreadable))
                else:
                    self._ledger.learn(lessons_of(series_uid, instances, associations, now))
                    self._complete(series_uid, known, verdict, now)
            case _:
                assert_never(verdict)
        if said := several_contents(instances):
            self._ledger.note_event("instances with several contents", series_uid, said)
        self._settled[series_uid] = watched.stamp
        del self._watched[series_uid]
        if known["study_uid"] is not None:
            self._to_gather[known["study_uid"]] = float("-inf")

    def _judge(self, series_uid: str, watched: _Watched, now: float, steady: float) -> tuple[Verdict, float]:
        """Give the verdict, and the time by which it was made."""
        try:
            self._read_new(series_uid, watched)
            now = watched.now(now, steady)
            watched.removed = self._removed_of(series_uid)
            facts = SeriesFacts(
                series_instance_uid=series_uid,
                instances=tuple(watched.instances.values()),
                associations=watched.associations,
                refused=self._ledger.refused_of(series_uid),
                habits=self._habits_of(watched.senders),
                asks_archive=self._archives.knows(watched.senders),
                archive=watched.archive,
                asked=watched.asked,
                first_identity=self._ledger.first_identity(series_uid),
                removed=watched.removed,
            )
            policy = self._policy_of(facts)
            verdict = assess(facts, now, policy)
            return self._asking(facts, verdict, policy, now) if isinstance(verdict, Growing) else verdict, now
        except Exception as error:  # the stage's loop: one series that cannot be judged must not hold up the others
            fault = type(error).__name__
            self._log("series cannot be judged", series=series_uid, fault=fault, at=place_of(error))
            cause = error.strerror if isinstance(error, OSError) and error.strerror else fault
            reason = f"it cannot be judged ({cause}; see the log) and is looked at again and again"
            return Growing(look_again_at=now + _AFTER_A_FAULT_S, waiting_for=reason), now

    def _removed_of(self, series_uid: str) -> RemovedImages | None:
        found = self._ledger.removed_images(series_uid)
        if found is None:
            return None
        at, sop_instance_uids = found
        return RemovedImages(on=_day(at), sop_instance_uids=frozenset(sop_instance_uids))

    def _habits_of(self, titles: Sequence[str]) -> dict[str, Habits]:
        lessons = {title: self._ledger.lessons_of(title) for title in titles}
        return {title: habits_of(learned) for title, learned in lessons.items() if learned}

    def _policy_of(self, facts: SeriesFacts) -> CompletionPolicy:
        """Give the policy of the route that takes the first instance: before the series is whole, nobody knows more."""
        first = min(
            facts.instances, key=lambda one: (not one.planes, one.received_at, one.sop_instance_uid), default=None
        )
        decision = decide(self._routes, first.attributes if first else {})
        if isinstance(decision, Accepted):
            return self._policies.get(decision.route.name, self._policy)
        return self._policy

    def _asking(self, facts: SeriesFacts, growing: Growing, policy: CompletionPolicy, now: float) -> Growing:
        """Ask the archive where it is time to; its answer is looked at as soon as it is there."""
        ask_at = ask_archive_at(facts, policy)
        if ask_at is None:
            return growing
        if now < ask_at:
            return replace(growing, look_again_at=min(growing.look_again_at, ask_at))
        titles = sorted({one.calling_ae_title for one in facts.associations})
        study_uid = facts.instances[0].study_instance_uid
        self._archives.ask(titles, study_uid, facts.series_instance_uid, facts.instance_count)
        return growing

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
        decisions = [(manifest, decide(self._routes, manifest.attributes)) for manifest in verdict.manifests]
        routed = [(manifest, one) for manifest, one in decisions if isinstance(one, Accepted)]
        refused = [
            f"volume {number} of {len(decisions)} is not contoured: {one.reason}"
            for number, (_, one) in enumerate(decisions, start=1)
            if isinstance(one, Declined)
        ]
        judged = {
            **known,
            "evidence": [*verdict.evidence, *(refused if routed else [])],
            "left_out": [{"sop_instance_uid": one.sop_instance_uid, "reason": one.reason} for one in verdict.left_out],
            # Of the first volume; each job names its own.
            "fingerprint": (routed[0][0] if routed else verdict.manifests[0]).fingerprint,
            "complete_at": now,
            "study_uid": verdict.manifests[0].study_instance_uid,  # of the version that counts
        }
        if routed:
            self._accept(series_uid, judged, routed)
        else:
            reasons = dict.fromkeys(one.reason for _, one in decisions if isinstance(one, Declined))
            self._decline(series_uid, judged, " ".join(reasons))

    def _accept(self, series_uid: str, judged: Row, routed: Sequence[tuple[SeriesManifest, Accepted]]) -> None:
        gathered = [manifest.fingerprint for manifest, accepted in routed if accepted.channel]
        alone = [(manifest, accepted.route) for manifest, accepted in routed if not accepted.channel]
        jobs = [job_of(manifest, route, model) for manifest, route in alone for model in route.models]
        enqueues = [self._queue.contour(job["job"], priority=job["priority"]) for job in jobs]
        replaced = self._superseded(series_uid, [manifest for manifest, _ in routed], jobs)
        routes = ", ".join(dict.fromkeys(accepted.route.name for _, accepted in routed))
        accepted = {**judged, "state": SeriesState.COMPLETE, "route": routes}
        if gathered:
            reason = "whole; the other images of its place are looked for"
            accepted |= {"state": SeriesState.WAITING, "reason": reason, "gathered": gathered}
        manifests = [manifest_to_json(manifest) for manifest, _ in routed]
        self._ledger.accept_series(series_uid, accepted, manifests, jobs, all_of(enqueues), replaced)
        self._log(
            "series complete",
            series=series_uid,
            instances=judged["instances"],
            volumes=len(manifests),
            route=routes,
            jobs=len(jobs),
            superseded=len(replaced),
        )

    def _superseded(
        self, series_uid: str, manifests: Sequence[SeriesManifest], jobs: Sequence[Row]
    ) -> Mapping[str, str]:
        known = {one.fingerprint: one.files for one in manifests}

        def files_of(fingerprint: str) -> Collection[str]:
            files = known.get(fingerprint)
            return self._ledger.manifest(series_uid, fingerprint)["files"] if files is None else files

        return superseded(self._ledger.jobs_of(series_uid), jobs, known, files_of)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(at))


def _missing(watched: _Watched) -> bool:
    there = {one.sop_instance_uid for one in watched.instances.values()}
    return watched.removed is not None and not watched.removed.sop_instance_uids <= there


def _with_unreadable(reason: str, unreadable: dict[str, str]) -> str:
    if not unreadable:
        return reason
    first = next(iter(unreadable.values()))
    return f"{reason} {len(unreadable)} stored file(s) cannot be read, the first: {first}".strip()
