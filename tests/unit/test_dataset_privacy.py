"""What tells of somebody stays out of a report."""

import pytest

from node.dataset.privacy import Privacy

PRIVACY = Privacy(["Zimmerfrau^Quirina^Li", "HOSP-7701", "Heart^Ann"], ["Heart", "Parotid_L"])


@pytest.mark.parametrize(
    "name",
    [
        "GTV Zimmerfrau",
        "gtv_ZIMMERFRAU",
        "Quirinas Tumor",
        "PTV 7701",
        "hosp mask",
        "Li",
        "GTV 20240229",
        "GTV 1.3.24",
        "GTV 24-03-01",
    ],
)
def test_names_with_something_of_a_patient_are_withheld(name: str) -> None:
    assert PRIVACY.may_tell(name)


@pytest.mark.parametrize("name", ["PTV_5040", "parotid_L", "HEART", "Lunge links", "GTV 1.1", "Liver"])
def test_names_of_organs_and_doses_are_not(name: str) -> None:
    assert not PRIVACY.may_tell(name)


def test_reasons_lose_uids_and_paths() -> None:
    told = PRIVACY.reason("Instance 2.25.1234567890123: /srv/scans/Doe/1.dcm at z=-128.690 is 1.600 mm off")

    assert told == "Instance (UID): (path) at z=-128.690 is 1.600 mm off"
