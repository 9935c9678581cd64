"""What is asked for, and what became of it: values that the builder, the report and the key share."""

from dataclasses import dataclass
from typing import Literal

from node.dataset.archive import Archive
from node.dataset.cases import Labelled
from node.dataset.names import Names
from node.dataset.raw import Case

What = Literal["series", "structure set", "organ"]
Modality = Literal["CT", "MR"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made."""

    name: str
    names: Names
    # Names of structures that everybody uses: they tell of nobody.
    known_names: frozenset[str] = frozenset()
    modality: Modality = "CT"
    validation: float = 0.15
    test: float = 0.15
    seed: int = 1
    # Every organ must be contoured in so many patients.
    min_patients: int = 1
    # Like this must the label of a structure set be; None: any.
    structure_set: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that is not in the training set, and why."""

    what: What
    # UID of a series or a structure set, name of a case.
    of: str
    reason: str
    organ: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltCase:
    """A case, with what only the report and the key say of it."""

    case: Case
    series_uid: str
    study_uid: str
    patient_id: str
    structure_set_uid: str
    # (slices, rows, columns) and millimetres between them, as in the file.
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    voxel_volume_mm3: float
    # Without the labels, which are written.
    labelled: Labelled


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was made, and of what."""

    order: Order
    archive: Archive
    cases: tuple[BuiltCase, ...]
    left_out: tuple[LeftOut, ...]
