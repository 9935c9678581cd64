"""Gather: whole volumes of several series become the jobs of models that take them together.

Every answer follows from the ledger and the routes alone and is committed with its jobs, so it may be found again at
any time: after a restart nothing is lost, and nothing is made twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from node.domain.channels import Coming, Gathering, Image, Lacking, Together, Unfit, gather, said_of
from node.domain.instance import ReceivedInstance
from node.domain.jobs import SeriesState
from node.domain.routing import Accepted, Route, decide
from node.domain.series import manifest_from_json
from node.stages.new_jobs import joint_job_of, superseded_together
from node.stages.ports import Log, Queue, Row, SeriesLedger, all_of

_ROUTES_CHANGED = "The routes were changed: none takes it as one of several images any more. Send it again."


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """What follows for each series of a study, volume by volume, and the jobs."""

    of_series: dict[str, list[tuple[SeriesState, str]]] = field(default_factory=dict)
    jobs: list[Row] = field(default_factory=list)

    def add(self, series_uid: str, state: SeriesState, reason: str) -> None:
        self.of_series.setdefault(series_uid, []).append((state, reason))


class Gatherer:
    """Looks at the studies of which a series was judged."""

    def __init__(self, *, ledger: SeriesLedger, queue: Queue, routes: Sequence[Route], log: Log) -> None:
        self._ledger = ledger
        self._queue = queue
        self._routes = routes
        self._log = log

    def gather(self, study_uid: str, growing: Iterable[ReceivedInstance]) -> None:
        """Decide what becomes of every whole volume of a study that waits for others.

        Parameters
        ----------
        growing
            Of the series of this study that are not whole yet, every instance.
        """
        rows = {row["series_uid"]: row for row in self._ledger.series_of_study(study_uid)}
        members = {uid: row for uid, row in rows.items() if row["gathered"] and row["state"] != SeriesState.RECEIVING}
        outcomes = self._outcomes(members, tuple(growing)) if members else _Outcomes()
        facts = {}
        for series_uid, found in outcomes.of_series.items():
            settled = _settled(members[series_uid], found)
            if settled is not None:
                facts[series_uid] = settled
        if facts:
            enqueues = [self._queue.contour(job["job"], priority=job["priority"]) for job in outcomes.jobs]
            current = {series_uid: row["gathered"] for series_uid, row in members.items()}
            former = [job for series_uid in members for job in self._ledger.jobs_of(series_uid)]
            replaced = superseded_together(former, outcomes.jobs, current)
            self._ledger.settle_together(facts, outcomes.jobs, all_of(enqueues), replaced)
            for series_uid, settled in facts.items():
                self._log(f"series {settled['state']}", series=series_uid, reason=settled["reason"])

    def _outcomes(self, members: dict[str, Row], growing: Sequence[ReceivedInstance]) -> _Outcomes:
        outcomes = _Outcomes()
        images: dict[str, list[Image]] = {}
        for series_uid, row in members.items():
            for fingerprint in row["gathered"]:
                manifest = manifest_from_json(self._ledger.manifest(series_uid, fingerprint))
                decision = decide(self._routes, manifest.attributes)
                if isinstance(decision, Accepted) and decision.channel:
                    image = Image(channel=decision.channel, manifest=manifest)
                    images.setdefault(decision.route.name, []).append(image)
                else:
                    outcomes.add(series_uid, SeriesState.DECLINED, _ROUTES_CHANGED)
        for route in self._routes:
            for gathering in gather(route, images.get(route.name, []), self._coming(route, growing)):
                _conclude(route, gathering, outcomes)
        return outcomes

    def _coming(self, route: Route, growing: Iterable[ReceivedInstance]) -> tuple[Coming, ...]:
        coming = {}
        for one in growing:
            decision = decide(self._routes, one.attributes)
            if isinstance(decision, Accepted) and decision.route.name == route.name and decision.channel:
                found = Coming(
                    channel=decision.channel,
                    series_instance_uid=one.series_instance_uid,
                    frame_of_reference_uid=one.frame_of_reference_uid,
                )
                coming[found] = found
        return tuple(coming)


def _conclude(route: Route, gathering: Gathering, outcomes: _Outcomes) -> None:
    verdict = gathering.verdict
    match verdict:
        case Together():
            outcomes.jobs.extend(joint_job_of(verdict.images, route, model) for model in route.models)
            state = SeriesState.COMPLETE
        case Lacking():
            state, reason = SeriesState.WAITING, f"waits for {verdict.words} of route {route.name!r}"
        case Unfit():
            state, reason = SeriesState.DECLINED, f"Route {route.name!r}: {verdict.reason}"
        case _:
            assert_never(verdict)
    for image in gathering.images:
        if isinstance(verdict, Together):
            reason = _with_whom(image, verdict.images, route)
        outcomes.add(image.manifest.series_instance_uid, state, reason)


def _with_whom(image: Image, images: Sequence[Image], route: Route) -> str:
    others = " and ".join(f"{one.channel} ({said_of(one, images)})" for one in images if one is not image)
    return f"{image.channel} of route {route.name!r}, together with {others}"


def _settled(row: Row, found: Sequence[tuple[SeriesState, str]]) -> Row | None:
    """Give what changes of a series' row; None where nothing does.

    What has its job keeps it, whatever else comes: only images that are there anew are judged anew.
    """
    states = [state for state, _ in found]
    if SeriesState.COMPLETE not in states and row["state"] == SeriesState.COMPLETE:
        return None
    order = (SeriesState.WAITING, SeriesState.COMPLETE, SeriesState.DECLINED)
    state = next(one for one in order if one in states)
    settled = {"state": state, "reason": "; ".join(dict.fromkeys(reason for _, reason in found))}
    return settled if any(row[name] != value for name, value in settled.items()) else None
