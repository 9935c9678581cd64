"""Real series of several vendors: what is judged whole, what is not, and that pixels decode the same."""

import io
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_fragments

from node.adapters.dicom_files import Skipped, dataset_loader, find_instances, read_file
from node.dicom.pixels import read_volume
from node.domain.errors import InputError
from node.domain.series import Complete, CompletionPolicy, SeriesFacts, SeriesManifest, Stalled, Verdict, assess
from node.domain.volume import Volume
from tests.real_data import unpacked

pytestmark = [pytest.mark.real_data, pytest.mark.filterwarnings("ignore")]

AT_ONCE = CompletionPolicy(quiet_period_s=0)
# To decode single images, which are no volume otherwise.
SINGLE = CompletionPolicy(quiet_period_s=0, minimum_slices=1)


def verdicts(folder: Path, policy: CompletionPolicy = AT_ONCE) -> dict[str, Verdict]:
    """Judge every series below a folder, by Series Instance UID."""
    by_series = defaultdict(list)
    for one in find_instances([folder], folder):
        if not isinstance(one, Skipped):
            by_series[one.series_instance_uid].append(one)
    return {
        uid: assess(SeriesFacts(series_instance_uid=uid, instances=tuple(instances), associations=()), 0.0, policy)
        for uid, instances in by_series.items()
    }


def verdict_of(folder: Path, policy: CompletionPolicy = AT_ONCE) -> Verdict:
    (verdict,) = verdicts(folder, policy).values()
    return verdict


def completed(folder: Path, policy: CompletionPolicy = AT_ONCE) -> Complete:
    verdict = verdict_of(folder, policy)
    assert isinstance(verdict, Complete), verdict
    return verdict


def volume_of(manifest: SeriesManifest) -> Volume:
    return read_volume(dataset_loader(Path("/"), manifest.files), manifest)


def single(path: Path) -> NDArray[np.float32]:
    """Decode one file that holds one image."""
    image: NDArray[np.float32] = volume_of(completed(path, SINGLE).manifests[0]).voxels[0]
    return image


def test_a_thorax_with_a_structure_set_beside_it_is_whole() -> None:
    found = verdicts(unpacked("onkodicom-thorax-rt") / "onkodicom-thorax-rt" / "dicom")

    (complete,) = (one for one in found.values() if isinstance(one, Complete))
    (stalled,) = (one for one in found.values() if isinstance(one, Stalled))
    assert complete.evidence[0] == "105 planes, 4.000 mm apart, regular"
    assert complete.manifests[0].grid.spacing_mm == pytest.approx((4.0, 1.26953125, 1.26953125))
    assert complete.manifests[0].attributes["Manufacturer"] == "SIEMENS"
    assert stalled.reason == "no image plane in 1 instance: 1 × RT Structure Set Storage is no CT, MR or PET image"
    voxels = volume_of(complete.manifests[0]).voxels
    assert (voxels.min(), voxels.max()) == (-1000.0, 3071.0)


def test_a_missing_slice_is_named() -> None:
    verdict = verdict_of(unpacked("gstt-aide-ct-rtstruct") / "gstt-aide-ct-rtstruct" / "dcm")

    assert verdict == Stalled(
        reason="slice missing: gap of 1.600 mm between z=-821.001 and z=-819.401, others 0.800 mm"
    )


def test_a_tilted_phantom_is_whole_and_its_scout_and_captures_are_none() -> None:
    folder = unpacked("gantry-tilt-philips") / "gantry-tilt-ct"

    phantom = completed(folder / "philips-phantom-tilt-18.5")

    assert phantom.evidence[0] == "54 planes, 2.371 mm apart, regular, each shifted by 0.793 mm (gantry tilt)"
    # tan 18.5° = 0.3346
    assert phantom.manifests[0].grid.tilt_mm / phantom.manifests[0].grid.slice_spacing_mm == pytest.approx(
        0.3346, abs=1e-3
    )
    assert verdict_of(folder / "philips-scout") == Stalled(reason="only localizer images (1)")
    assert verdict_of(folder / "philips-exam-summary-sc") == Stalled(
        reason="no image plane in 5 instances: 5 × Secondary Capture Image Storage is no CT, MR or PET image"
    )


def test_two_slices_are_no_volume() -> None:
    found = verdicts(unpacked("pelvis-ct-fragments") / "pelvis-ct-fragments")

    assert list(found.values()) == [Stalled(reason="only 2 image planes; a volume needs 3")] * 4


def test_slices_with_empty_uids_are_skipped_with_the_reason() -> None:
    folder = unpacked("totalseg-example") / "totalseg-example" / "example_ct_dicom"

    reasons = [one.reason for one in find_instances([folder], folder) if isinstance(one, Skipped)]

    assert reasons == ["SOP Instance UID is missing or empty."] * 20


@pytest.mark.parametrize(
    ("name", "planes"), [("11-T1post-18670", 22), ("37830-T2reg-78532", 22), ("11_HCropVolume", 40)]
)
def test_oblique_mr_is_whole(name: str, planes: int) -> None:
    manifest = completed(unpacked("brain-mr-series") / "brain-mr-series" / "Study3" / name).manifests[0]

    assert manifest.grid.shape[0] == planes
    assert manifest.modality == "MR"
    assert np.all(np.diff(manifest.grid.distances_mm) > 0)


def test_mr_without_rescale_holds_its_stored_values() -> None:
    folder = unpacked("brain-mr-series") / "brain-mr-series" / "Study3" / "11-T1post-18670"

    voxels = volume_of(completed(folder).manifests[0]).voxels

    assert (voxels.min(), voxels.max()) == (0.0, 2040.0)


@pytest.mark.parametrize("patient", ["STS_001", "STS_042"])
@pytest.mark.parametrize("modality", ["CT", "PET", "MR_T1"])
def test_head_first_and_feet_first_ct_pet_and_mr_are_whole(patient: str, modality: str) -> None:
    complete = completed(unpacked("ibsi-sts-001-042") / "ibsi-sts-ct-pet-mr" / patient / modality / "image")

    assert "3.270 mm apart, regular" in complete.evidence[0]
    volume = volume_of(complete.manifests[0])
    assert volume.voxels.shape == complete.manifests[0].grid.shape
    assert volume.voxels.min() == {"CT": -1000.0, "PET": 0.0}.get(modality, volume.voxels.min())


def test_a_legacy_enhanced_mr_is_one_volume() -> None:
    folder = unpacked("ibsi-digital-phantom-seg") / "ibsi-digital-phantom-seg" / "dicom_deprecated" / "image"

    volume = volume_of(completed(folder).manifests[0])

    assert volume.voxels.shape == (4, 4, 5)
    # The first row of the published phantom's first slice.
    assert volume.voxels[0, 0].tolist() == [1.0, 4.0, 4.0, 1.0, 1.0]


# Lossless; the rest is lossy or not decodable.
LOSSLESS_CT = [
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
    "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
    "LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2",
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
]
LOSSY_CT = {
    "JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91": 10.0,
    "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81": 10.0,
    "JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51": 60.0,
}


def ct_in(syntax: str) -> Path:
    folder = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "cornerstone-ct"
    return folder / f"CTImage.dcm_{syntax}.dcm"


@pytest.mark.parametrize("syntax", LOSSLESS_CT)
def test_one_ct_gives_the_same_values_in_every_lossless_syntax(syntax: str) -> None:
    plain = single(ct_in("LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1"))

    assert np.array_equal(single(ct_in(syntax)), plain)


@pytest.mark.parametrize(("syntax", "worst_hu"), LOSSY_CT.items())
def test_one_ct_gives_nearly_the_same_values_in_lossy_syntaxes(syntax: str, worst_hu: float) -> None:
    plain = single(ct_in("LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1"))

    assert np.abs(single(ct_in(syntax)) - plain).max() < worst_hu


@pytest.mark.parametrize(
    "syntax",
    ["JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53", "JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55"],
)
def test_a_retired_syntax_is_refused_by_name(syntax: str) -> None:
    with pytest.raises(InputError, match=r"pixels in transfer syntax JPEG .* cannot be decoded"):
        single(ct_in(syntax))


@pytest.mark.parametrize(
    "syntax",
    [
        "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
        "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
        "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81",
        "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
        "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
    ],
)
def test_a_compressed_image_that_is_cut_off_is_refused(syntax: str) -> None:
    # Only the stream is cut; the fragments around it are whole, as a faulty encoder would write them.
    manifest = completed(ct_in(syntax), SINGLE).manifests[0]
    dataset = dcmread(ct_in(syntax))
    content = bytes(dataset.PixelData)
    dataset.PixelData = shortened(content)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    cut = dcmread(io.BytesIO(buffer.getvalue()))

    with pytest.raises(InputError, match=r"cut off|cannot be decoded"):
        read_volume(lambda _: cut, manifest)


def shortened(content: bytes) -> bytes:
    """Halve the only frame of encapsulated pixel data."""

    frame = b"".join(generate_fragments(content))
    return encapsulate([frame[: len(frame) // 4 * 2]])


@pytest.mark.parametrize("name", ["RLE", "bigendian", "jp2klossless", "jpeg_ls_lossless", "padded"])
def test_one_mr_gives_the_same_values_in_every_lossless_syntax(name: str) -> None:
    folder = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "pydicom"

    assert np.array_equal(single(folder / f"MR_small_{name}.dcm"), single(folder / "MR_small.dcm"))


def test_a_file_that_is_cut_off_is_refused_with_its_figures() -> None:
    path = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "pydicom" / "MR_truncated.dcm"

    with pytest.raises(InputError, match="cut off: 8192 bytes of Pixel Data, of which 8130 are there"):
        read_file(path)


def test_siemens_mosaics_are_no_planes() -> None:
    verdict = verdict_of(unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "dcm_qa_ts-mr")

    assert verdict == Stalled(reason="no image plane in 9 instances: 9 × mosaic of several slices in one image")


def test_an_enhanced_ct_of_two_frames_is_ordered_by_position_and_decodes() -> None:
    path = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "pydicom" / "eCT_Supplemental.dcm"

    manifest = completed(path, SINGLE).manifests[0]

    # The second frame lies nearer to the feet.
    assert [one.frame_number for one in manifest.grid.planes] == [2, 1]
    assert volume_of(manifest).voxels.shape == (2, 512, 512)


def test_four_time_points_in_objects_of_their_own_are_four_volumes_as_soon_as_they_are_stored() -> None:
    folder = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "enhanced-mr" / "Siemens" / "XA10"
    one, four = completed(folder / "6_1.dcm", CompletionPolicy()), completed(folder, CompletionPolicy())

    assert [manifest.grid.shape for manifest in four.manifests] == [(6, 64, 64)] * 4
    assert one.manifests[0].fingerprint in {manifest.fingerprint for manifest in four.manifests}
    assert "multi-frame, whole by itself" in four.evidence


def test_magnitude_and_field_map_in_one_object_are_two_volumes_with_fingerprints_of_their_own() -> None:
    folder = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "enhanced-mr" / "Philips"

    field_map, magnitude = completed(folder).manifests

    assert field_map.files == magnitude.files
    assert field_map.fingerprint != magnitude.fingerprint
    frames = [{plane.frame_number for plane in one.grid.planes} for one in (field_map, magnitude)]
    assert (len(frames[0]), len(frames[1]), frames[0] & frames[1]) == (32, 32, set())
    # In Hertz the one, the other as the scanner counts.
    assert volume_of(field_map).voxels.min() < 0 <= volume_of(magnitude).voxels.min()


def test_an_enhanced_mr_without_frame_positions_says_so() -> None:
    path = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "pydicom" / "emri_small.dcm"

    assert verdict_of(path) == Stalled(reason="no image plane in 1 instance: 1 × functional groups for 0 of 10 frames")


def test_ct_without_a_frame_of_reference_is_no_volume() -> None:
    path = unpacked("transfer-syntax-samples") / "transfer-syntax-samples" / "pydicom" / "693_UNCR.dcm"

    assert verdict_of(path, SINGLE) == Stalled(reason="Frame of Reference UID is missing in 1 of 1 images")


def test_no_file_of_any_kind_raises_anything_but_a_reason() -> None:
    folder = unpacked("transfer-syntax-samples")

    found = list(find_instances([folder], folder))

    assert len(found) == sum(path.is_file() for path in folder.rglob("*"))
