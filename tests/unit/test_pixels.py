"""From datasets to scanner values: every figure below is computed by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import JPEGExtended12Bit, RLELossless

from node.dicom.pixels import read_volume
from node.domain.errors import InputError
from node.domain.volume import Volume
from tests.builders import ct_series, default_voxels, enhanced_ct, grid, manifest_of, write_and_read

STACK = grid(slices=4, rows=6, columns=9)


def read(datasets: list[Dataset]) -> Volume:
    """Write, read back and decode; changes made by a test are in what it reads."""
    manifest = manifest_of(datasets)
    by_uid = {str(one.SOPInstanceUID): write_and_read(one) for one in datasets}
    return read_volume(by_uid.__getitem__, manifest)


def refused(change: Callable[[Dataset], None]) -> str:
    """Change the third of four slices after the manifest is made; give the reason of the refusal."""
    datasets = ct_series(STACK)
    manifest = manifest_of(datasets)
    change(datasets[2])
    by_uid = {one.sop_instance_uid: dataset for one, dataset in zip(STACK.planes, datasets, strict=True)}
    with pytest.raises(InputError) as caught:
        read_volume(by_uid.__getitem__, manifest)
    assert caught.value.reason.startswith(f"Instance {STACK.planes[2].sop_instance_uid}: ")
    return caught.value.reason.partition(": ")[2]


def set_pixels(dataset: Dataset, stored: NDArray[np.integer], *, bits_stored: int, signed: bool) -> None:
    dataset.BitsStored, dataset.HighBit = bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.PixelData = stored.tobytes()


def one_slice(stored: NDArray[np.integer], *, bits_stored: int = 16, signed: bool = False) -> Dataset:
    dataset = ct_series(grid(slices=1, rows=stored.shape[0], columns=stored.shape[1]))[0]
    set_pixels(dataset, stored, bits_stored=bits_stored, signed=signed)
    return dataset


def test_a_volume_holds_the_scanner_values_in_the_order_of_the_grid() -> None:
    datasets = ct_series(STACK)

    volume = read(datasets[::-1])

    assert volume.voxels.dtype == np.float32
    assert volume.voxels.tolist() == default_voxels(STACK).tolist()
    assert volume.grid.planes == STACK.planes


def test_each_slice_has_its_own_rescale() -> None:
    datasets = ct_series(STACK)
    for index, dataset in enumerate(datasets):
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{0.5 * (index + 1)}", f"{-10 * index}"
        dataset.PixelData = np.full((6, 9), 100, dtype="<u2").tobytes()

    voxels = read(datasets).voxels

    assert voxels[:, 0, 0].tolist() == [50.0, 90.0, 130.0, 170.0]


def test_an_mr_without_rescale_keeps_its_stored_values() -> None:
    datasets = ct_series(STACK, voxels=np.arange(4 * 6 * 9).reshape(4, 6, 9), modality="MR")

    assert read(datasets).voxels.ravel().tolist() == list(range(216))


def test_signed_and_unsigned_values_keep_their_sign() -> None:
    signed = one_slice(np.array([[-2000, -1], [0, 3071]], dtype="<i2"), signed=True)
    unsigned = one_slice(np.array([[0, 1], [65535, 40000]], dtype="<u2"))

    assert read([signed]).voxels[0].tolist() == [[-3024.0, -1025.0], [-1024.0, 2047.0]]
    assert read([unsigned]).voxels[0].tolist() == [[-1024.0, -1023.0], [64511.0, 38976.0]]


def test_twelve_bits_without_extended_sign_are_extended() -> None:
    # 0xF9C is -100 in 12 bits.
    dataset = one_slice(np.array([[0x0F9C, 0x0001]], dtype="<u2"), bits_stored=12, signed=True)

    assert read([dataset]).voxels[0].tolist() == [[-1124.0, -1023.0]]


def test_twelve_bits_with_extended_sign_stay() -> None:
    dataset = one_slice(np.array([[-100, 2047]], dtype="<i2"), bits_stored=12, signed=True)

    assert read([dataset]).voxels[0].tolist() == [[-1124.0, 1023.0]]


def test_values_beyond_bits_stored_are_refused_and_not_wrapped() -> None:
    dataset = one_slice(np.array([[5000, 1]], dtype="<u2"), bits_stored=12)

    with pytest.raises(InputError, match="stored values of 1 to 5000 do not fit Bits Stored 12"):
        read([dataset])


def test_an_overlay_in_the_unused_bits_is_no_value() -> None:
    dataset = one_slice(np.array([[0x1000 | 100, 200]], dtype="<u2"), bits_stored=12)
    dataset.add_new((0x6000, 0x0102), "US", 12)

    assert read([dataset]).voxels[0].tolist() == [[-924.0, -824.0]]


def test_values_of_32_bits_lose_nothing_before_the_rescale() -> None:
    dataset = one_slice(np.array([[16_777_217, 0]], dtype="<u4"), bits_stored=32)
    dataset.RescaleIntercept = "-16777216"

    assert read([dataset]).voxels[0].tolist() == [[1.0, -16777216.0]]


def test_padding_stays_the_value_that_it_is() -> None:
    dataset = one_slice(np.array([[-2000, 0]], dtype="<i2"), signed=True)
    dataset.PixelPaddingValue = -2000

    assert read([dataset]).voxels[0].tolist() == [[-3024.0, -1024.0]]


def test_an_enhanced_ct_is_read_frame_by_frame() -> None:
    volume = read([enhanced_ct(STACK)])

    assert volume.voxels.tolist() == default_voxels(STACK).tolist()


def test_frames_in_another_order_than_their_positions_go_where_they_belong() -> None:
    dataset = enhanced_ct(STACK)
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence)[::-1]

    voxels = read([dataset]).voxels

    assert voxels.tolist() == default_voxels(STACK)[::-1].tolist()


def test_each_frame_has_its_own_pixel_value_transformation() -> None:
    dataset = enhanced_ct(STACK)
    for index, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        transformation = Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = "2", f"{index}"
        transformation.RescaleType = "HU"
        groups.PixelValueTransformationSequence = [transformation]
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    dataset.PixelData = np.full((4, 6, 9), 10, dtype="<u2").tobytes()

    assert read([dataset]).voxels[:, 5, 8].tolist() == [20.0, 21.0, 22.0, 23.0]


def test_a_compressed_series_gives_the_same_values() -> None:
    datasets = ct_series(STACK)
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)

    assert read(datasets).voxels.tolist() == default_voxels(STACK).tolist()


def test_each_dataset_is_loaded_once() -> None:
    datasets = [enhanced_ct(STACK)]
    loaded: list[str] = []

    def load(sop_instance_uid: str) -> Dataset:
        loaded.append(sop_instance_uid)
        return datasets[0]

    read_volume(load, manifest_of(datasets))

    assert loaded == [datasets[0].SOPInstanceUID]


def delete(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


def put(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, value)


def put_raw(keyword: str, vr: str, value: bytes) -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        tag = Tag(keyword)
        dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)

    return change


def cut_off(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:100]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (delete("PixelData"), "Pixel Data is missing."),
        (cut_off, "Pixel Data is cut off: 100 bytes instead of 108."),
        (put("Rows", 7), "Rows × Columns are 7 × 9 instead of 6 × 9."),
        (put("SamplesPerPixel", 3), "Samples per Pixel is 3 instead of 1."),
        (
            put("PhotometricInterpretation", "MONOCHROME1"),
            "Photometric Interpretation is MONOCHROME1, not MONOCHROME2.",
        ),
        (put("SOPInstanceUID", "1.2.3"), "the file holds instance 1.2.3."),
        (put("HighBit", 11), "High Bit is 11 with Bits Stored 16."),
        (put("RescaleType", "MGML"), "Rescale Type is MGML, not Hounsfield units (HU)."),
        (put("RescaleSlope", "0"), "Rescale Slope 0 and Rescale Intercept -1024 are no transformation."),
        (delete("RescaleSlope"), "Rescale Slope or Rescale Intercept is missing."),
        (put_raw("BitsAllocated", "PN", b"Doe^Jane"), "damaged header (TypeError)."),
        (put_raw("RescaleSlope", "US", b"1.0"), "damaged header (BytesLengthException)."),
        (put_raw("PhotometricInterpretation", "\x00\x01", b"MONOCHROME2 "), "damaged header (NotImplementedError)."),
        (put("ModalityLUTSequence", [Dataset()]), "a Modality LUT Sequence instead of Rescale Slope and Intercept."),
    ],
)
def test_what_cannot_be_read_is_refused_by_instance_and_figure(change: Callable[[Dataset], None], reason: str) -> None:
    assert refused(change) == reason


def test_without_a_transfer_syntax_nothing_is_guessed() -> None:
    def forget(dataset: Dataset) -> None:
        del dataset.file_meta.TransferSyntaxUID

    assert refused(forget) == "Transfer Syntax UID is missing."


def test_pixels_that_are_not_of_their_syntax_are_refused() -> None:
    def claim(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = JPEGExtended12Bit

    assert refused(claim).startswith("pixels in transfer syntax JPEG Extended (Process 2 and 4) cannot be decoded")


def test_a_decoder_that_panics_on_damaged_pixels_stops_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    def overrun(dataset: Dataset) -> None:
        (wider,) = ct_series(grid(slices=1, rows=7, columns=9))
        wider.compress(RLELossless, generate_instance_uid=False)
        dataset.PixelData, dataset.file_meta.TransferSyntaxUID = wider.PixelData, RLELossless
        dataset["PixelData"].is_undefined_length = True

    reason = refused(overrun)

    assert reason == "pixels in transfer syntax RLE Lossless cannot be decoded: damaged"
    assert "panicked" in capfd.readouterr().err, "The decoder raises by now: this test and what it guards can go."


def test_a_ct_without_rescale_is_refused_for_it_holds_no_hounsfield_units() -> None:
    def strip(dataset: Dataset) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept

    assert refused(strip) == "Rescale Slope or Rescale Intercept is missing."
