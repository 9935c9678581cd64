"""A node at work whose destination must prove what it keeps, hears of failures too, and is down at times."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import evt

from node.adapters.storage_scu import store
from node.dicom.commitment import COMMITMENT_CLASS_UID
from tests.acceptance.running import RunningNode, run_delineate
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import BASIC_TEXT_SR, RT_STRUCTURE_SET, SEGMENTATION, FakeDestination
from tests.integration.test_commitment import Archive

CLASSES = (RT_STRUCTURE_SET, SEGMENTATION, BASIC_TEXT_SR, COMMITMENT_CLASS_UID)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was seen from outside."""

    contoured: str
    truncated: str
    received: list[Dataset]
    returned: list[Dataset]
    status: dict[str, Any]
    printed: str
    log: str

    def of(self, series_uid: str, destination: str) -> dict[str, Any]:
        """Give the one delivery about a series to a destination."""
        rows = self.status["deliveries"]
        (row,) = (one for one in rows if one["job"].startswith(series_uid) and one["destination"] == destination)
        return dict(row)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("delivery")
    archive = Archive()
    whole, truncated = phantom("whole", slices=12), phantom("truncated-for-sr", slices=2)
    tps = FakeDestination(sop_classes=CLASSES, handlers=[(evt.EVT_N_ACTION, archive.on_action)])
    scanner = FakeDestination(ae_title="CT1", sop_classes=CLASSES)
    peers = [
        '\n[[peers]]\nname = "scanner"\nae_title = "CT1"\n'
        f'host = "127.0.0.1"\nport = {scanner.address.port}\n'
        '\n[[peers]]\nname = "archive"\nae_title = "ARCHIVE"\n'
    ]
    node = RunningNode(folder, destination_port=tps.address.port, more="".join(peers))
    archive.calls_back = node.port
    text = node.config_path.read_text(encoding="utf-8")
    text = text.replace(f"port = {tps.address.port}\n", f"port = {tps.address.port}\ncommitment = true\n")
    text = text.replace('destinations = ["tps"]', 'destinations = ["tps", "sender"]\nnegative_results = true')
    # Its own time comes in five minutes: what is delivered before was let go when the destination answered.
    text = text.replace("first_retry_s = 0.5\nlongest_retry_s = 2.0", "first_retry_s = 300.0\nprobe_s = 2.0")
    node.config_path.write_text(text, encoding="utf-8")
    with scanner, node:
        for name, series in (("whole", whole), ("truncated", truncated)):
            store(node.address, save_series(series, folder / name), calling_ae_title="CT1")
        # While it is down: everything waits for it, and goes when it is back.
        node.wait_until(lambda status: waiting_for_tps(status) == 2)
        with tps:
            status = node.wait_until(lambda status: confirmed(status) == 2 and delivered(status) == 4)
            printed = run_delineate("status", "--config", str(node.config_path)).stdout
    return Outcome(
        contoured=str(whole[0].SeriesInstanceUID),
        truncated=str(truncated[0].SeriesInstanceUID),
        received=tps.received,
        returned=scanner.received,
        status=status,
        printed=printed,
        log=node.log,
    )


def waiting_for_tps(status: dict[str, Any]) -> int:
    return sum(row["waits_for"] == "destination" for row in status["deliveries"])


def confirmed(status: dict[str, Any]) -> int:
    return sum(row["confirmed_at"] is not None for row in status["deliveries"])


def delivered(status: dict[str, Any]) -> int:
    return sum(row["state"] == "delivered" for row in status["deliveries"])


def test_what_a_destination_took_is_confirmed_by_its_report(outcome: Outcome) -> None:
    row = outcome.of(outcome.contoured, "tps")

    assert (row["state"], row["confirmation"]["failed"]) == ("delivered", {})
    assert row["confirmed_at"] is not None
    assert "confirmed by Storage Commitment at" in outcome.printed


def test_of_a_series_without_contours_the_destination_gets_the_reason(outcome: Outcome) -> None:
    reports = [one for one in outcome.received if one.SOPClassUID == BASIC_TEXT_SR]

    (report,) = reports
    (declined,) = (one for one in outcome.status["series"] if one["series_uid"] == outcome.truncated)
    said = [item.get("TextValue") for item in report.ContentSequence]
    assert declined["state"] == "declined"
    assert any(declined["reason"][:40] in (text or "") for text in said)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == outcome.truncated
    assert "not contoured; reported" in outcome.printed


def test_results_go_back_to_whoever_sent_the_images(outcome: Outcome) -> None:
    assert outcome.of(outcome.contoured, "sender/CT1")["state"] == "delivered"
    kinds = {str(one.SOPClassUID) for one in outcome.returned}
    assert kinds == {RT_STRUCTURE_SET, SEGMENTATION, BASIC_TEXT_SR}
    sent = {str(one.SOPInstanceUID) for one in outcome.received}
    assert {str(one.SOPInstanceUID) for one in outcome.returned} == sent


def test_no_object_was_sent_twice(outcome: Outcome) -> None:
    uids = [str(one.SOPInstanceUID) for one in outcome.received]

    assert len(set(uids)) == len(uids) == 3


def test_the_log_tells_of_it_without_a_patient(outcome: Outcome) -> None:
    for event in ("destination answers", "commitment reported", "negative result reported"):
        assert event in outcome.log
    for one in outcome.received:
        assert str(one.PatientName) not in outcome.log
        assert str(one.PatientID) not in outcome.log
