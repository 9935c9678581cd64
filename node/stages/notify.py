"""Notify: where no contours were made, a small report goes to those who expected them.

What was reported is known by its deliveries, whose key follows from the job, or the series, and the reason: so nothing
is reported twice, wherever this ends.
"""

import hashlib
from collections.abc import Callable, Sequence
from io import BytesIO

import pydicom
from pydicom import Dataset

from node.dicom.basic_text_sr import basic_text_sr
from node.dicom.headers import patient_digest
from node.dicom.verify_basic_text_sr import verify_basic_text_sr
from node.dicom.verify_identity import verify_identity
from node.domain.delivery import notice_key
from node.domain.errors import InputError, NodeError, place_of
from node.domain.instance import ReceivedInstance
from node.domain.jobs import JobState
from node.domain.notice import Notice
from node.domain.routing import Route, would_take
from node.domain.series import manifest_from_json
from node.stages.delivery_ports import NoticeFiles, NoticeLedger
from node.stages.new_jobs import destinations_of
from node.stages.ports import Log, Queue, ResultStore, Row, all_of

# How far it looks back: further than any restart takes, and not to all that happened before reports were asked for.
_LOOK_BACK_S = 86_400.0

_AT_THE_NODE = "Contour by hand. The node's operator finds the cause in its status and log."
_WHAT_TO_DO = {
    JobState.DECLINED: "Send a complete, regular series that shows what the model draws, or contour by hand.",
    JobState.QUARANTINED: _AT_THE_NODE,
    JobState.FAILED: _AT_THE_NODE,
}
_OF_A_SERIES = "Send the series again, whole and regular, or contour by hand."


class Notifier:
    """Looks for jobs and series that ended without contours.

    Parameters
    ----------
    files
        The stored images.
    """

    def __init__(
        self,
        *,
        ledger: NoticeLedger,
        queue: Queue,
        results: ResultStore,
        files: NoticeFiles,
        routes: Sequence[Route],
        device: tuple[str, str],
        now: Callable[[], float],
        log: Log,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._results = results
        self._files = files
        self._routes = {route.name: route for route in routes}
        self._reporting = [route.name for route in routes if route.negative_results]
        self._station_name, self._software_version = device
        self._now = now
        self._log = log
        # Reported, or not to be.
        self._settled: set[str] = set()

    def tick(self) -> None:
        """Report what ended without contours since the last look."""
        if not self._reporting:
            return
        since = self._now() - _LOOK_BACK_S
        for row in self._ledger.jobs_without_result(self._reporting, list(_WHAT_TO_DO), since):
            self._once(notice_key(row["job"], _digest(row["reason"])), row, self._of_job)
        for row in self._ledger.declined_series(since):
            self._once(notice_key(row["series_uid"], _digest(row["stamp"], row["reason"])), row, self._of_series)

    def _once(self, key: str, row: Row, report: Callable[[str, Row], None]) -> None:
        if key in self._settled:
            return
        try:
            if not self._ledger.deliveries_of(key):
                report(key, row)
        except OSError as error:
            # The disk may come back: next time.
            self._log("negative result waits", job=key, fault=type(error).__name__, at=place_of(error))
        except NodeError as error:
            self._settled.add(key)
            self._log("negative result not reported", job=key, reason=error.reason)
        else:
            self._settled.add(key)

    def _of_job(self, key: str, row: Row) -> None:
        manifest = manifest_from_json(self._ledger.manifest(row["series_uid"], row["fingerprint"]))
        headers = self._files.headers(row["series_uid"], sorted(manifest.files.values()))
        what_to_do = _WHAT_TO_DO[JobState(row["state"])]
        self._report(key, row, headers, row["model"], what_to_do, row["destinations"])

    def _of_series(self, key: str, row: Row) -> None:
        names = self._files.names(row["series_uid"])
        first = self._first_readable(row["series_uid"], names)
        route = would_take(list(self._routes.values()), first.attributes) if first else None
        if first is None or route is None or not route.negative_results:
            return
        headers = self._files.headers(row["series_uid"], names)
        destinations = destinations_of(route, first.attributes.get("CallingAETitle", ""))
        self._report(key, row, headers, ", ".join(route.models), _OF_A_SERIES, destinations)

    def _first_readable(self, series_uid: str, names: Sequence[str]) -> ReceivedInstance | None:
        for name in names:
            try:
                return self._files.instance(series_uid, name)
            except InputError:
                continue
        return None

    def _report(
        self, key: str, row: Row, headers: Sequence[Dataset], model: str, what_to_do: str, destinations: Sequence[str]
    ) -> None:
        if len({patient_digest(header) for header in headers}) != 1:
            raise InputError("The images are of several patients, or none can be read: nobody can be told.")
        notice = Notice(
            job=key,
            study_instance_uid=str(headers[0].StudyInstanceUID),
            series_instance_uid=row["series_uid"],
            model=model,
            reason=row["reason"],
            what_to_do=what_to_do,
            decided_at=row["updated_at"],
            station_name=self._station_name,
            software_version=self._software_version,
        )
        report = basic_text_sr(notice, headers)
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, report, enforce_file_format=True)
        written = buffer.getvalue()
        verify_basic_text_sr(written, notice, headers)
        verify_identity(written, headers)
        uid = str(report.SOPInstanceUID)
        output = {"kind": "sr", "form": "", "sop_instance_uid": uid, **self._results.write(key, "sr.dcm", written)}
        enqueues = [self._queue.deliver(key, destination) for destination in destinations]
        self._ledger.add_notice(key, [output], {one: [[uid]] for one in destinations}, all_of(enqueues))
        self._log("negative result reported", job=key, reason=row["reason"])


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
