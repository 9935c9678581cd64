"""One SOP Instance UID with several contents: an instance that was sent again with another header, or another image.

PS3.5 9: a UID identifies one object. What is sent again corrected keeps it all the same, so the same pixels at the same
place under another header are the same image, corrected: the version received last counts. Other pixels, or another
place, are another image under a UID that is taken, and nobody can say which of the two is meant.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from node.domain.instance import ReceivedInstance
from node.domain.stack import Obstacle


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The instances that count, one for each SOP Instance UID."""

    instances: tuple[ReceivedInstance, ...]
    # How many of them stand for former versions, too.
    corrected: int = 0

    @property
    def said(self) -> str:
        """Say that there are former versions; empty where there are none."""
        if not self.corrected:
            return ""
        one = self.corrected == 1
        which = "1 instance was" if one else f"{self.corrected} instances were"
        return f"{which} sent again with the same pixels and another header: the version received last counts"


def latest_versions(instances: Iterable[ReceivedInstance]) -> Versions | Obstacle:
    """Choose what counts of every SOP Instance UID; the order of the instances never matters."""
    ordered = sorted(instances, key=lambda one: (one.sop_instance_uid, one.received_at, one.file_name))
    groups = [tuple(group) for _, group in groupby(ordered, key=lambda one: one.sop_instance_uid)]
    clashes = [reason for group in groups if (reason := _why_not_one(group))]
    if clashes:
        more = f", and so do {len(clashes) - 1} more" if len(clashes) > 1 else ""
        return Obstacle(reason=clashes[0] + more)
    return Versions(
        instances=tuple(group[-1] for group in groups), corrected=sum(_are_several(group) for group in groups)
    )


def several_contents(instances: Iterable[ReceivedInstance]) -> str:
    """Say that some SOP Instance UIDs have several contents, and which counts, if any; empty where none has."""
    versions = latest_versions(instances)
    return versions.reason if isinstance(versions, Obstacle) else versions.said


def identity_of(instances: Sequence[ReceivedInstance]) -> str:
    """Give a short digest that changes where patient or study of a series are corrected.

    It is kept with manifests: eight digits notice a correction, and tell nobody's name who tries names.
    """
    first = min(instances, key=lambda one: one.sop_instance_uid)
    named = f"{first.series_instance_uid}|{first.study_instance_uid}|{first.patient_digest}"
    return hashlib.sha256(named.encode()).hexdigest()[:8]


def _why_not_one(versions: Sequence[ReceivedInstance]) -> str:
    uid = versions[0].sop_instance_uid
    if len({one.pixel_digest for one in versions}) > 1:
        return f"SOP Instance UID {uid} stands for different images"
    if any(_place(one) != _place(versions[0]) for one in versions):
        return f"SOP Instance UID {uid} stands for one image at different places"
    return ""


def _place(instance: ReceivedInstance) -> tuple[object, ...]:
    return instance.sop_class_uid, instance.frame_of_reference_uid, instance.planes


def _are_several(versions: Sequence[ReceivedInstance]) -> bool:
    return any(_told(one) != _told(versions[0]) for one in versions)


def _told(instance: ReceivedInstance) -> ReceivedInstance:
    """Give what an instance says, wherever and whenever it was received."""
    return replace(instance, received_at=0.0, file_name="")
