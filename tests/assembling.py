"""What the assembler sees of the world, in memory: an inbox, a ledger, a queue and an archive."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from node.domain.errors import InputError
from node.domain.evidence import ArchiveAnswer
from node.domain.grid import Plane
from node.domain.habits import Lesson
from node.domain.instance import ReceivedInstance
from node.domain.jobs import SeriesState
from node.domain.routing import Route
from node.domain.series import AssociationFact, CompletionPolicy
from node.stages.assemble import Assembler
from tests.builders import grid

SERIES = "1.2.3"
ROUTE = Route(
    name="planning-ct",
    when={"Modality": ("CT",)},
    unless={},
    models=("body-bones", "other"),
    outputs=("rtstruct",),
    destinations=("tps",),
)


def instance(plane: Plane, received_at: float, **changes: Any) -> ReceivedInstance:
    values: dict[str, Any] = {
        "sop_instance_uid": plane.sop_instance_uid,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "series_instance_uid": SERIES,
        "study_instance_uid": "1.2",
        "frame_of_reference_uid": "1.2.9",
        "patient_digest": "p",
        "pixel_digest": plane.sop_instance_uid,
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "planes": (plane,),
        "not_an_image": None,
        "instance_number": 1,
        "attributes": {"Modality": "CT", "CallingAETitle": "CT1"},
        "received_at": received_at,
        "file_name": f"{plane.sop_instance_uid}.dcm",
    }
    return ReceivedInstance(**{**values, **changes})


class World:
    """An inbox, a ledger and a queue in memory."""

    def __init__(self, count: int = 5) -> None:
        self.files: dict[str, ReceivedInstance | str] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, Any] = {}
        self.enqueued: list[str] = []
        self.priorities: dict[str, int] = {}
        self.reads: list[str] = []
        self.endings = ["released"]
        self.refused: dict[str, str] = {}
        self.policies: dict[str, CompletionPolicy] = {}
        self.lessons: list[Lesson] = []
        self.manifests: Sequence[dict[str, Any]] = []
        self.bodies: dict[tuple[str, str], dict[str, Any]] = {}
        self.has_archive = False
        self.asked: list[tuple[Sequence[str], str, str, int]] = []
        self.archive_answer: ArchiveAnswer | None = None
        self.removed: tuple[float, Sequence[str]] | None = None
        self.events: list[tuple[str, str, str]] = []
        for plane in grid(slices=count).planes if count else ():
            self.add(instance(plane, 100.0))

    def add(self, one: ReceivedInstance) -> None:
        self.files[one.file_name] = one

    def assembler(
        self,
        routes: Sequence[Route] = (ROUTE,),
        policy: CompletionPolicy = CompletionPolicy(new_senders="settle"),  # noqa: B008 - frozen
    ) -> Assembler:
        return Assembler(
            inbox=self,
            ledger=self,
            queue=self,
            routes=routes,
            policy=policy,
            policies=self.policies,
            archives=self,
            read_instance=self.read,
            log=lambda *_, **__: None,
        )

    # the inbox
    def series_uids(self) -> Sequence[str]:
        return [SERIES]

    def stamp(self, series_uid: str) -> str:
        return str(len(self.files))

    def stamps(self) -> dict[str, str]:
        return {uid: self.stamp(uid) for uid in self.series_uids()}

    def file_names(self, series_uid: str) -> Sequence[str]:
        return list(self.files)

    def path(self, series_uid: str, file_name: str) -> Path:
        return Path(file_name)

    def read(self, path: Path) -> ReceivedInstance:
        self.reads.append(path.name)
        found = self.files[path.name]
        if isinstance(found, str):
            raise InputError(found)
        return found

    # the ledger
    def series(self, series_uid: str) -> dict[str, Any] | None:
        return self.rows.get(series_uid)

    def associations_of(self, series_uid: str) -> tuple[AssociationFact, ...]:
        return tuple(
            AssociationFact(
                association_id=str(number),
                calling_ae_title="CT1",
                ending=ending,  # type: ignore[arg-type]
                opened_at=99.0,
                ended_at=None if ending == "open" else 100.5,
            )
            for number, ending in enumerate(self.endings)
        )

    def refused_of(self, series_uid: str) -> dict[str, str]:
        return self.refused

    def removed_images(self, series_uid: str) -> tuple[float, Sequence[str]] | None:
        return self.removed

    def first_identity(self, series_uid: str) -> str:
        return next((str(one["identity"]) for one in self.bodies.values()), "")

    def note_event(self, kind: str, subject: str, text: str) -> None:
        self.events.append((kind, subject, text))

    def latest_association(self) -> int:
        return len(self.endings)

    def series_sent_since(self, association: int) -> Sequence[str]:
        return [SERIES] if len(self.endings) > association else []

    def other_series_of(self, association_id: str, series_uid: str) -> Sequence[str]:
        return [uid for uid in self.series_uids() if uid != series_uid]

    def lessons_of(self, calling_ae_title: str) -> Sequence[Lesson]:
        return self.lessons

    def learn(self, lessons: Sequence[Lesson]) -> None:
        self.lessons = list(lessons)

    # the archives
    def knows(self, calling_ae_titles: Sequence[str]) -> bool:
        return self.has_archive

    def ask(self, calling_ae_titles: Sequence[str], study_uid: str, series_uid: str, had: int) -> None:
        self.asked.append((calling_ae_titles, study_uid, series_uid, had))

    def answer(self, series_uid: str) -> ArchiveAnswer | None:
        return self.archive_answer

    def note_series(self, series_uid: str, facts: Any) -> None:
        self.rows[series_uid] = {"series_uid": series_uid, **self.rows.get(series_uid, {}), **facts}

    def accept_series(
        self, series_uid: str, facts: Any, manifests: Any, jobs: Any, enqueue: Any, superseded: Any
    ) -> None:
        self.note_series(series_uid, facts)
        self.manifests = manifests
        for body in manifests:
            self.bodies.setdefault((series_uid, body["fingerprint"]), body)
        self._add_jobs(jobs, enqueue, superseded)

    def settle_together(self, facts: Any, jobs: Any, enqueue: Any, superseded: Any) -> None:
        for series_uid, values in facts.items():
            self.note_series(series_uid, values)
        self._add_jobs(jobs, enqueue, superseded)

    def _add_jobs(self, jobs: Any, enqueue: Any, superseded: Any) -> None:
        for job in jobs:
            self.jobs.setdefault(job["job"], {"channels": [], "superseded_by": None, **job})
        for former, new in superseded.items():
            self.jobs[former]["superseded_by"] = new
        enqueue(self.enqueued)

    def jobs_of(self, series_uid: str) -> Sequence[dict[str, Any]]:
        return [job for job in self.jobs.values() if job["series_uid"] == series_uid]

    def series_asked_for(self) -> Sequence[str]:
        return [uid for uid, row in self.rows.items() if row.get("asked")]

    def series_of_study(self, study_uid: str) -> Sequence[dict[str, Any]]:
        return [row for row in self.rows.values() if row["study_uid"] == study_uid]

    def studies_that_wait(self) -> Sequence[str]:
        return [row["study_uid"] for row in self.rows.values() if row["state"] == SeriesState.WAITING]

    def manifest(self, series_uid: str, fingerprint: str) -> dict[str, Any]:
        return self.bodies[series_uid, fingerprint]

    # the queue
    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0, priority: int = 10) -> Callable[[Any], None]:
        self.priorities[job] = priority
        return lambda transaction: transaction.append(job)

    def deliver(
        self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0, via: str | None = None
    ) -> Callable[[Any], None]:
        raise AssertionError("assembling delivers nothing")
