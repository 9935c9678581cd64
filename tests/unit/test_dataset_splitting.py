"""Who trains, validates and tests."""

import random

import pytest

from node.dataset.splitting import Patients, shuffled, split


def test_studies_of_one_identifier_are_one_patients_in_whatever_order_they_come() -> None:
    met = [("A", "1"), ("A", "2"), ("B", "3"), ("", "4"), ("C", "3"), ("", "5")]
    groups = []
    for seed in range(20):
        random.Random(seed).shuffle(met)
        patients = Patients()
        for patient_id, study in met:
            patients.add(patient_id, study)
        groups.append({study: patients.of(study) for study in "12345"})

    assert all(group == groups[0] for group in groups)
    # B and C share a study; what has no identifier stands alone.
    assert groups[0]["1"] == groups[0]["2"]
    assert len(set(groups[0].values())) == 4


def test_the_split_depends_on_the_seed_alone() -> None:
    patients = [f"patient {number}" for number in range(40)]

    first = shuffled(patients, 1)

    assert shuffled(reversed(patients), 1) == first
    assert shuffled(patients, 2) != first
    # The order is none of theirs.
    assert first != sorted(first)


@pytest.mark.parametrize(
    ("patients", "validation", "test", "counts"),
    [
        (40, 0.15, 0.15, (28, 6, 6)),
        (10, 0.15, 0.15, (6, 2, 2)),
        (3, 0.15, 0.15, (1, 1, 1)),
        (2, 0.15, 0.15, (2, 0, 0)),
        (3, 0.0, 0.0, (3, 0, 0)),
        (1, 0.9, 0.0, (1, 0, 0)),
    ],
)
def test_shares_are_of_patients_and_training_never_goes_without(
    patients: int, validation: float, test: float, counts: tuple[int, int, int]
) -> None:
    splits = list(split([str(each) for each in range(patients)], validation=validation, test=test).values())

    assert tuple(splits.count(each) for each in ("train", "validation", "test")) == counts
