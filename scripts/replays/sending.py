"""One series as a sender sends it: what arrives when, over which association, and how those end."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from node.domain.evidence import ArchiveAnswer
from node.domain.grid import Plane
from node.domain.instance import ReceivedInstance
from node.domain.series import AssociationFact, Ending

SERIES = "1.2.3"
SENDER = "CT1"

Change = Callable[[int, ReceivedInstance], ReceivedInstance]


@dataclass(kw_only=True)
class _Association:
    opened_at: float
    ended_at: float = float("inf")
    ending: Ending = "open"


@dataclass(kw_only=True)
class Sending:
    """A series on its way; written by its methods in the order of time."""

    # What the slices are, by index; they arrive as `send` says.
    slices: Sequence[ReceivedInstance]
    at: float = 1_000_000.0
    # (time, index of the slice, association).
    arrivals: list[tuple[float, int, str]] = field(default_factory=list)
    # (time, association) of instances of other series.
    elsewhere: list[tuple[float, str]] = field(default_factory=list)
    associations: dict[str, _Association] = field(default_factory=dict)
    # What an archive would answer; None: there is none to ask.
    archive_count: int | None = None
    # False where slices lack for ever, so that no verdict but a refusal is right.
    becomes_whole: bool = True

    def send(self, indices: Sequence[int], association: str, gap: Callable[[], float]) -> None:
        """Let slices arrive over an association, each after a gap."""
        for index in indices:
            self.at += gap()
            self.associations.setdefault(association, _Association(opened_at=self.at))
            if all(index != sent for _, sent, _ in self.arrivals):  # the same data set again makes no file
                self.arrivals.append((self.at, index, association))

    def send_elsewhere(self, count: int, association: str, gap: Callable[[], float]) -> None:
        """Let instances of another series arrive over an association."""
        for _ in range(count):
            self.at += gap()
            self.elsewhere.append((self.at, association))

    def end(self, association: str, ending: Ending = "released", after_s: float = 0.05) -> None:
        """End an association."""
        self.associations[association].ended_at = self.at + after_s
        self.associations[association].ending = ending

    @property
    def end_at(self) -> float:
        """Give when the last slice arrived."""
        return max(at for at, _, _ in self.arrivals)

    @property
    def last_event_at(self) -> float:
        """Give when nothing happens any more."""
        ends = [one.ended_at for one in self.associations.values() if one.ending != "open"]
        return max([self.end_at, *ends, *(at for at, _ in self.elsewhere)])

    def events(self) -> list[float]:
        """Give every time at which anything can be seen that was not there before."""
        ends = [one.ended_at for one in self.associations.values() if one.ending != "open"]
        return sorted({*(at for at, _, _ in self.arrivals), *ends, *(at for at, _ in self.elsewhere)})

    def instances_at(self, now: float) -> tuple[ReceivedInstance, ...]:
        """Give what is in the inbox."""
        return tuple(replace(self.slices[index], received_at=at) for at, index, _ in self.arrivals if at <= now)

    def associations_at(self, now: float) -> tuple[AssociationFact, ...]:
        """Give the associations that sent to the series, as they are then."""
        last = max((at for at, _, _ in self.arrivals if at <= now), default=now)
        return tuple(
            AssociationFact(
                association_id=name,
                calling_ae_title=SENDER,
                ending=one.ending if one.ended_at <= now else "open",
                opened_at=one.opened_at,
                ended_at=one.ended_at if one.ended_at <= now else None,
                sent_elsewhere=sum(by == name and last < at <= now for at, by in self.elsewhere),
            )
            for name, one in self.associations.items()
            if one.opened_at <= now
        )

    def archive_at(self, now: float) -> ArchiveAnswer | None:
        """Give what the archive answers when it is asked then."""
        if self.archive_count is None:
            return None
        had = len(self.instances_at(now))
        return ArchiveAnswer(archive="PACS", count=self.archive_count, asked_at=now, had=had)

    def speaks_against(self, now: float, quiet_period_s: float) -> str:
        """Say what, visible then, contradicts that the series is whole; told without the rules under test."""
        here = self.instances_at(now)
        last = max(one.received_at for one in here)
        broken = [one for one in self.associations_at(now) if one.ending in ("aborted", "lost")]
        if any(one.ended_at is not None and one.ended_at >= last - quiet_period_s for one in broken):
            return "abort"
        numbers = {one.instance_number for one in here}
        if numbers != set(range(1, len(numbers) + 1)):
            return "hole in the instance numbers"
        if self.archive_count is not None and self.archive_count > len(here):
            return "the archive has more"
        if any((one.images_in_acquisition or 0) > len(here) for one in here):
            return "the images state more"
        return ""


def slices(count: int = 40, *, change: Change = lambda _, one: one) -> list[ReceivedInstance]:
    """Build CT slices, 2 mm apart, with Instance Numbers from 1."""
    return [change(index, _slice(index, -300.0 + 2.0 * index)) for index in range(count)]


def moved(one: ReceivedInstance, z: float) -> ReceivedInstance:
    """Give the slice at another height."""
    return replace(one, planes=(replace(one.planes[0], position_lps_mm=(0.0, 0.0, z)),))


def keyed(one: ReceivedInstance, **keys: str) -> ReceivedInstance:
    """Give the slice with what may tell volumes apart."""
    return replace(one, plane_keys=(keys,))


def multi_frame(count: int = 40) -> list[ReceivedInstance]:
    """Build one instance with a frame for each plane."""
    whole = _slice(0, 0.0)
    planes = (
        replace(whole.planes[0], frame_number=index + 1, position_lps_mm=(0.0, 0.0, 2.0 * index))
        for index in range(count)
    )
    return [replace(whole, planes=tuple(planes))]


def _slice(index: int, z: float) -> ReceivedInstance:
    uid = f"1.2.3.{index + 1}"
    return ReceivedInstance(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        series_instance_uid=SERIES,
        study_instance_uid="1.2",
        frame_of_reference_uid="1.2.9",
        patient_digest="patient",
        pixel_digest=uid,
        modality="CT",
        image_type=("ORIGINAL", "PRIMARY", "AXIAL"),
        planes=(
            Plane(
                sop_instance_uid=uid,
                frame_number=None,
                position_lps_mm=(0.0, 0.0, z),
                orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                pixel_spacing_mm=(0.9, 0.9),
                rows=512,
                columns=512,
            ),
        ),
        not_an_image=None,
        instance_number=index + 1,
        attributes={"Modality": "CT", "CallingAETitle": SENDER},
        received_at=0.0,
        file_name=f"{uid}.dcm",
    )


def uniform(chance: random.Random, low: float, high: float) -> Callable[[], float]:
    """Give gaps between two bounds."""
    return lambda: chance.uniform(low, high)
