"""`delineate check` tries of each destination what the configuration wants of it, and says what to do."""

from pathlib import Path
from typing import Any

import pytest
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from node.checkup import Finding, tried
from node.config import parse
from node.destination_checkup import attempts_at_destinations
from node.dicom.commitment import COMMITMENT_CLASS_UID
from tests.fakes import SEGMENTATION, FakeDestination, free_port


def findings(*destinations: dict[str, Any], names: tuple[str, ...] = (), **more: Any) -> dict[str, Finding]:
    routes = [{"name": "ct", "models": ["m"], "destinations": list(names or (one["name"] for one in destinations))}]
    config = parse({"delivery": {"timeout_s": 3.0}, "destinations": list(destinations), "routes": routes, **more})
    return {subject: tried(subject, attempt) for subject, attempt in attempts_at_destinations(config)}


def entity(port: int, **more: Any) -> dict[str, Any]:
    return {"name": "tps", "ae_title": "TPS", "host": "127.0.0.1", "port": port, **more}


@pytest.mark.parametrize(
    ("keys", "sop_class", "said"),
    [
        ({"commitment": True}, COMMITMENT_CLASS_UID, "takes Storage Commitment"),
        ({"confirm": "find"}, StudyRootQueryRetrieveInformationModelFind, "takes C-FIND"),
    ],
)
def test_a_destination_takes_the_proof_that_is_asked_of_it_or_that_is_said(
    keys: dict[str, Any], sop_class: str, said: str
) -> None:
    with FakeDestination(sop_classes=[SEGMENTATION, sop_class]) as able, FakeDestination() as unable:
        can, cannot = (findings(entity(one.address.port, **keys))["destination tps"] for one in (able, unable))

    assert can.holds
    assert said in can.said
    assert not cannot.holds
    assert "accepts no presentation context" in cannot.said
    assert cannot.what_to_do


def test_who_is_to_commit_itself_must_be_allowed_to_call_us() -> None:
    destination = entity(free_port(), commitment=True)

    everybody = findings(destination)["reports of tps"]
    others = findings(destination, peers=[{"name": "ct", "ae_title": "CT*"}])["reports of tps"]
    itself = findings(destination, peers=[{"name": "tps", "ae_title": "TPS"}])["reports of tps"]

    assert (everybody.holds, others.holds, itself.holds) == (True, False, True)
    assert "[[peers]]" in others.what_to_do


def test_a_dicomweb_service_that_is_not_there_is_said() -> None:
    found = findings({"name": "web", "stow": f"http://127.0.0.1:{free_port()}/dicom-web"})["destination web"]

    assert not found.holds
    assert "cannot be reached" in found.said


def test_files_for_tls_are_read(tmp_path: Path) -> None:
    found = findings(entity(free_port(), tls=True, tls_ca=str(tmp_path / "nowhere.pem")))["destination tps"]

    assert not found.holds
    assert "nowhere.pem is not there" in found.said


def test_a_route_back_to_senders_that_nobody_can_find_is_said() -> None:
    unknown = findings(names=("sender",))["senders of route ct"]
    known = findings(names=("sender",), peers=[{"name": "ct", "ae_title": "CT1", "host": "127.0.0.1", "port": 104}])[
        "senders of route ct"
    ]

    assert not unknown.holds
    assert known.said == "results go back to CT1; those of any other sender wait"
