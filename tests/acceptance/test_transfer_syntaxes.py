"""Real images in every transfer syntax, sent as they are to a node at work: kept to the byte, decoded or declined.

The samples: one CT in fifteen syntaxes, one MR in seven, Enhanced CT and MR, and files that are faulty on purpose.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from node.adapters.dicom_files import dataset_loader
from node.dicom.pixels import read_volume
from tests.acceptance.running import RunningNode, run
from tests.acceptance.test_peers import require
from tests.builders import uid
from tests.fakes import free_port
from tests.integration.test_series_real import LOSSLESS_CT, SINGLE, completed, ct_in, shortened
from tests.raw_sender import Instance, RawAssociation, Response, data_set_of
from tests.real_data import unpacked

pytestmark = [pytest.mark.real_data, pytest.mark.filterwarnings("ignore")]

IMAGES = {
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
}
# JPEG, retired: processes that no decoder of ours knows.
NOT_OFFERED = {"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"}
TRANSFER_SYNTAXES_NOT_SUPPORTED = 4
REFUSED = {
    "MR_truncated.dcm": "Data set ends inside (7FE0,0010): 8130 of 8192 bytes",
    # Its SOP Instance UID is a hash.
    "bad_sequence.dcm": "SOP Instance UID (0008,0018) is not a UID",
    # Cut out of a larger one.
    "priv_SQ.dcm": "SOP Class UID (0008,0016) is missing or empty",
}
LOSSY_CT = [
    "JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91",
    "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81",
    "JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51",
    # Of 8 bits.
    "JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50",
]
PLAIN_CT = "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1"
# What ojph_compress is told for each High-Throughput JPEG 2000 syntax (PS3.5 A.4.10-A.4.12).
HIGH_THROUGHPUT = {
    "1.2.840.10008.1.2.4.201": ["-reversible", "true", "-prog_order", "LRCP"],
    "1.2.840.10008.1.2.4.202": ["-reversible", "true", "-prog_order", "RPCL"],
    "1.2.840.10008.1.2.4.203": ["-reversible", "false", "-qstep", "0.00001"],
}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One sample and what the node answered; None where it took no presentation context for it."""

    path: Path
    instance: Instance
    response: Response | None
    refusal: int | None


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    folder = tmp_path_factory.mktemp("syntaxes")
    with RunningNode(folder, destination_port=free_port(), settle_s=0.5, quiet_period_s=2.0) as running:
        yield running


def send(node: RunningNode, path: Path, instance: Instance) -> Sent:
    """Propose exactly the syntax of the file, and send its data set as it is."""
    context = (instance.sop_class_uid, [instance.transfer_syntax_uid])
    with RawAssociation(node.address, [context], calling="SAMPLES") as association:
        refusal = association.refused.get(instance.sop_class_uid)
        response = None if refusal else association.store(instance)
    return Sent(path=path, instance=instance, response=response, refusal=refusal)


def samples() -> Iterator[tuple[Path, Instance]]:
    for path in sorted(unpacked("transfer-syntax-samples").rglob("*")):
        if path.is_file():
            try:
                instance = Instance.read(path)
            except (InvalidDicomError, AttributeError):
                continue  # no Part 10 file, or one without a transfer syntax: nobody could send it
            if instance.sop_class_uid in IMAGES:
                yield path, instance


@pytest.fixture(scope="module")
def sent(node: RunningNode) -> list[Sent]:
    return [send(node, path, instance) for path, instance in samples()]


@pytest.fixture(scope="module")
def kept(node: RunningNode, sent: list[Sent]) -> dict[bytes, Path]:
    """Give every file of the inbox by its data set."""
    return {data_set_of(path): path for path in (node.folder / "var/inbox").rglob("*.dcm")}


def test_every_image_is_stored_but_the_faulty_and_those_in_a_syntax_that_nobody_decodes(sent: list[Sent]) -> None:
    assert len(sent) == 60
    assert {str(one.instance.transfer_syntax_uid) for one in sent if one.refusal} == NOT_OFFERED
    for one in sent:
        name = one.path.name
        if one.instance.transfer_syntax_uid in NOT_OFFERED:
            assert one.refusal == TRANSFER_SYNTAXES_NOT_SUPPORTED, name
            continue
        assert one.response is not None, name
        if name in REFUSED:
            assert (one.response.status, one.response.error_comment) == (0xC000, REFUSED[name])
        else:
            assert one.response.status == 0x0000, (name, one.response)


def test_every_data_set_is_kept_to_the_byte_behind_our_own_file_meta_information(
    sent: list[Sent], kept: dict[bytes, Path]
) -> None:
    for one in sent:
        if one.refusal:
            continue
        assert one.instance.data_set in kept, one.path.name
        path = kept[one.instance.data_set]
        assert ("rejected" in path.parts) == (one.path.name in REFUSED)
        meta = dcmread(path, stop_before_pixels=True, force=True).file_meta
        assert meta.TransferSyntaxUID == one.instance.transfer_syntax_uid
        assert meta.MediaStorageSOPInstanceUID == one.instance.sop_instance_uid
        assert meta.SourceApplicationEntityTitle == "SAMPLES"
        assert str(meta.ImplementationVersionName).startswith("DELINEATE")


def test_every_series_of_the_samples_is_declined_with_the_reason(node: RunningNode, kept: dict[bytes, Path]) -> None:
    expected = {path.parent.name for path in kept.values()} - {"rejected"}

    status = node.wait_until(
        lambda status: {row["series_uid"] for row in status["series"] if row["state"] != "receiving"} >= expected
    )

    rows = [row for row in status["series"] if row["series_uid"] in expected and row["state"] == "declined"]
    assert all(len(row["reason"]) > 10 for row in rows)
    reasons = " ".join(row["reason"] for row in rows)
    for said in ("Secondary Capture", "mosaic of several slices in one image", "a volume needs 3", "different images"):
        assert said in reasons


def decoded(path: Path) -> NDArray[np.float32]:
    """Decode a file of the inbox as the contourer does."""
    manifest = completed(path, SINGLE).manifest
    return read_volume(dataset_loader(Path("/"), manifest.files), manifest).voxels


@pytest.mark.parametrize("syntax", LOSSLESS_CT)
def test_what_was_received_losslessly_decodes_to_the_voxels_of_the_original(
    sent: list[Sent], kept: dict[bytes, Path], syntax: str
) -> None:
    plain, compressed = (kept[data_set_of(ct_in(one))] for one in (PLAIN_CT, syntax))

    assert np.array_equal(decoded(compressed), decoded(plain))


# A volume in each syntax, all the way ---------------------------------------------------------------------------------


def volume_in(dataset: Dataset, name: str, slices: int = 4) -> list[Instance]:
    """Make a series of one image: the same stream of pixels, never encoded anew, at several positions."""
    instances = []
    for index in range(slices):
        buffer = BytesIO()
        dataset.SOPInstanceUID = uid(name, "instance", str(index))
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SeriesInstanceUID = uid(name, "series")
        dataset.InstanceNumber = index + 1
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) + 5.0 * (index > 0)]
        dataset.SliceThickness = "5"
        dataset.save_as(buffer, enforce_file_format=True)
        content = buffer.getvalue()
        instances.append(
            Instance(
                sop_class_uid=str(dataset.SOPClassUID),
                sop_instance_uid=str(dataset.SOPInstanceUID),
                transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
                data_set=content[144 + int.from_bytes(content[140:144], "little") :],
            )
        )
    return instances


def send_volume(node: RunningNode, instances: list[Instance]) -> str:
    """Send a series in one association; gives its UID."""
    first = instances[0]
    with RawAssociation(node.address, [(first.sop_class_uid, [first.transfer_syntax_uid])]) as association:
        assert [association.store(one).status for one in instances] == [0x0000] * len(instances)
    return first.sop_instance_uid


def job_of(node: RunningNode, name: str) -> dict[str, Any]:
    """Wait until a series is contoured or that has failed; gives the row of the job."""

    def ended(status: dict[str, Any]) -> list[dict[str, Any]]:
        of_series = [row for row in status["jobs"] if row["series_uid"] == uid(name, "series")]
        return [row for row in of_series if row["report"] or row["reason"]]

    return ended(node.wait_until(ended))[0]


def body_cm3(node: RunningNode, name: str) -> float:
    """Give the volume of the body that was contoured in a series."""
    job = job_of(node, name)
    assert job["report"], job["reason"]
    return float(next(one["volume_cm3"] for one in job["report"]["structures"] if one["name"].lower() == "body"))


@pytest.fixture(scope="module")
def contoured(node: RunningNode) -> list[str]:
    """Send a volume in every syntax of the samples that is offered."""
    syntaxes = [PLAIN_CT, *LOSSLESS_CT, *LOSSY_CT]
    for syntax in syntaxes:
        send_volume(node, volume_in(dcmread(ct_in(syntax)), syntax))
    return syntaxes


@pytest.mark.parametrize("syntax", LOSSLESS_CT)
def test_a_volume_in_a_lossless_syntax_is_contoured_as_the_uncompressed_one(
    node: RunningNode, contoured: list[str], syntax: str
) -> None:
    assert body_cm3(node, syntax) == body_cm3(node, PLAIN_CT)


@pytest.mark.parametrize("syntax", LOSSY_CT)
def test_a_volume_in_a_lossy_syntax_is_contoured_nearly_as_the_uncompressed_one(
    node: RunningNode, contoured: list[str], syntax: str
) -> None:
    assert body_cm3(node, syntax) == pytest.approx(body_cm3(node, PLAIN_CT), rel=0.02)


def test_a_volume_whose_streams_are_cut_off_is_kept_and_declined_with_the_reason(node: RunningNode) -> None:
    dataset = dcmread(ct_in("JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90"))
    dataset.PixelData = shortened(dataset.PixelData)

    send_volume(node, volume_in(dataset, "cut off"))

    job = job_of(node, "cut off")
    assert job["state"] == "declined"
    assert "pixels in transfer syntax JPEG 2000" in job["reason"]


@pytest.mark.peers
@pytest.mark.parametrize("syntax", HIGH_THROUGHPUT)
def test_a_volume_in_high_throughput_jpeg_2000_is_contoured_as_the_uncompressed_one(
    node: RunningNode, contoured: list[str], tmp_path: Path, syntax: str
) -> None:
    require("ojph_compress")
    dataset = dcmread(ct_in(PLAIN_CT))
    # The encoder takes no signed images: 2048 more in every stored value, 2048 less in the intercept.
    stored = (dataset.pixel_array.astype(np.int32) + 2048).astype(">u2")
    (tmp_path / "image.pgm").write_bytes(b"P5\n512 512\n65535\n" + stored.tobytes())
    command: list[str | Path] = [
        "ojph_compress",
        "-i",
        tmp_path / "image.pgm",
        "-o",
        tmp_path / "image.j2c",
        *HIGH_THROUGHPUT[syntax],
    ]
    assert run(command).returncode == 0
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = str(float(dataset.RescaleIntercept) - 2048)
    dataset.PixelData = encapsulate([(tmp_path / "image.j2c").read_bytes()])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = UID(syntax)

    send_volume(node, volume_in(dataset, syntax))

    assert body_cm3(node, syntax) == pytest.approx(body_cm3(node, PLAIN_CT), rel=0.001)
