"""Which patients train, validate and test: by a seed, whatever the order in which an archive was read.

A patient is told by Patient ID; studies that share one, and identifiers that share a study, are one patient's: all of
them are in one split. Nothing of a patient is in a key.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from node.dataset.raw import Split

# Before the identifier; comes before that of a study in their order.
_PATIENT = "patient "


@dataclass(frozen=True, slots=True)
class Patients:
    """Who is the same: Patient IDs and Study Instance UIDs, joined as they are met."""

    _parent: dict[str, str] = field(default_factory=dict)

    def add(self, patient_id: str, study_instance_uid: str) -> None:
        """Learn that a study is a patient's; without an identifier the study stands for the patient."""
        study = self._root(f"study {study_instance_uid}")
        if patient_id and study_instance_uid:
            root = self._root(f"{_PATIENT}{patient_id}")
            # Whichever is met first: the key must not depend on it.
            low, high = sorted((study, root))
            self._parent[high] = low

    def of(self, study_instance_uid: str) -> str:
        """Give what stands for the patient of a study."""
        return self._root(f"study {study_instance_uid}")

    def is_named(self, study_instance_uid: str) -> bool:
        """Tell whether a study has an identifier; those of a patient without one cannot be told to be one's."""
        return self.of(study_instance_uid).startswith(_PATIENT)

    def _root(self, one: str) -> str:
        self._parent.setdefault(one, one)
        while (parent := self._parent[one]) != one:
            one = parent
        return one


def shuffled(keys: Iterable[str], seed: int) -> list[str]:
    """Order keys so that the order says nothing of them; the same keys and seed give the same order."""
    return sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}|{key}".encode()).digest())


def split(patients: Sequence[str], *, validation: float, test: float) -> Mapping[str, Split]:
    """Give the split of each patient, taken from the front of the order given.

    A share that is asked for gets a patient where there are three or more; training never gets none.
    """
    tested, validated = (_count(len(patients), share) for share in (test, validation))
    splits: dict[str, Split] = dict.fromkeys(patients, "train")
    left = len(patients) - 1
    tested = min(tested, left)
    validated = min(validated, left - tested)
    splits |= dict.fromkeys(patients[:tested], "test")
    splits |= dict.fromkeys(patients[tested : tested + validated], "validation")
    return splits


def _count(patients: int, share: float) -> int:
    count = int(patients * share + 0.5)
    return max(count, 1) if share > 0 and patients >= 3 else count
