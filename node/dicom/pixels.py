"""From the datasets of a manifest to one volume of scanner values.

Pixel Padding Value is not looked at: padding stays the value that it is (often -2000 or -3024 HU), as the sender
wrote it. A package that cares clips its input.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import BytesLengthException
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes

from node.dicom.headers import functional_group
from node.domain.errors import InputError
from node.domain.grid import Plane
from node.domain.series import SeriesManifest
from node.domain.volume import Volume

Load = Callable[[str], Dataset]

# What pydicom and the decoders behind it raise on data that they cannot decode.
_UNDECODABLE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    RuntimeError,
    BytesLengthException,
    EOFError,
    OSError,
    struct.error,
)
# The marker that ends every JPEG-LS stream (ISO/IEC 14495-1).
_END_OF_IMAGE = b"\xff\xd9"
# PS3.3 C.8.2.1: type 1 in these, so without them the values would not be Hounsfield units or activity.
_NEEDS_RESCALE = frozenset({"CT", "PT"})
# Rescale Type of a CT; absent means HU. "US" (unspecified) is what anonymisers and old consoles write for HU.
_HOUNSFIELD = frozenset({"", "HU", "US"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rescale:
    slope: float
    intercept: float


def read_volume(load: Load, manifest: SeriesManifest) -> Volume:
    """Decode and rescale every plane of a manifest.

    One dataset is held at a time, so memory is the volume and one instance.

    Parameters
    ----------
    load
        Gives the whole dataset of a SOP Instance UID, with file meta information; called once for each instance.

    Returns
    -------
    The volume on the manifest's grid: Rescale Slope · stored value + Rescale Intercept (PS3.3 C.11.1.1.2), HU for
    CT; for MR without rescale the stored values.

    Raises
    ------
    InputError
        A dataset is another one than the manifest says, or its pixels are missing, cut off, of a transfer syntax
        that we cannot decode, in colour, or not in Hounsfield units (CT).
    """
    voxels = np.empty(manifest.grid.shape, dtype=np.float32)
    for sop_instance_uid, slices in _slices_by_instance(manifest.grid.planes).items():
        dataset = load(sop_instance_uid)
        try:
            _read_planes(dataset, manifest, slices, voxels)
        except InputError as error:
            raise InputError(f"Instance {sop_instance_uid}: {error.reason}") from error
        except _UNDECODABLE as error:
            # Without the error's own words, which may quote a value.
            raise InputError(f"Instance {sop_instance_uid}: damaged header ({type(error).__name__}).") from error
    return Volume(voxels=voxels, grid=manifest.grid)


def _slices_by_instance(planes: Sequence[Plane]) -> dict[str, list[int]]:
    slices: dict[str, list[int]] = {}
    for index, plane in enumerate(planes):
        slices.setdefault(plane.sop_instance_uid, []).append(index)
    return slices


def _read_planes(
    dataset: Dataset, manifest: SeriesManifest, slices: Sequence[int], voxels: NDArray[np.float32]
) -> None:
    planes = [manifest.grid.planes[index] for index in slices]
    _check(dataset, planes)
    frames = [(plane.frame_number or 1) for plane in planes]
    decoded = _decoded_frames(dataset, [frame - 1 for frame in frames])
    for index, frame, stored in zip(slices, frames, decoded, strict=True):
        if stored.shape != voxels.shape[1:]:
            raise InputError(f"decoded pixels have shape {stored.shape} instead of {voxels.shape[1:]}.")
        _apply(_rescale(dataset, frame, manifest.modality), stored, voxels[index])


def _check(dataset: Dataset, planes: Sequence[Plane]) -> None:
    if dataset.get("SOPInstanceUID") != planes[0].sop_instance_uid:
        raise InputError(f"the file holds instance {dataset.get('SOPInstanceUID')}.")
    size = dataset.get("Rows"), dataset.get("Columns")
    if size != (planes[0].rows, planes[0].columns):
        raise InputError(f"Rows × Columns are {size[0]} × {size[1]} instead of {planes[0].rows} × {planes[0].columns}.")
    if dataset.get("SamplesPerPixel") != 1:
        raise InputError(f"Samples per Pixel is {dataset.get('SamplesPerPixel')} instead of 1.")
    if dataset.get("PhotometricInterpretation") != "MONOCHROME2":
        # In CT, MR and PET, MONOCHROME1 marks secondary images whose values are inverted.
        raise InputError(f"Photometric Interpretation is {dataset.get('PhotometricInterpretation')}, not MONOCHROME2.")
    if "PixelData" not in dataset:
        raise InputError("Pixel Data is missing.")
    if "ModalityLUTSequence" in dataset:
        raise InputError("a Modality LUT Sequence instead of Rescale Slope and Intercept.")
    _check_length(dataset)


def _check_length(dataset: Dataset) -> None:
    """Name the figures where pixel data is cut off, and find what a decoder would not."""
    syntax = _transfer_syntax(dataset)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if syntax in JPEGLSTransferSyntaxes:
        _check_ends(dataset, frames)
    if syntax.is_compressed:
        return
    expected = frames * dataset.Rows * dataset.Columns * int(dataset.get("BitsAllocated") or 0) // 8
    if len(dataset.PixelData) < expected:
        raise InputError(f"Pixel Data is cut off: {len(dataset.PixelData)} bytes instead of {expected}.")


def _check_ends(dataset: Dataset, frames: int) -> None:
    # A near-lossless JPEG-LS stream that is cut off decodes, without a word, to an image of which a part is wrong.
    try:
        for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=frames), start=1):
            if not frame.rstrip(b"\0").endswith(_END_OF_IMAGE):
                raise InputError(f"frame {number} is cut off: {len(frame)} bytes without an end of image.")
    except _UNDECODABLE as error:
        raise InputError(f"the fragments of Pixel Data form no {frames} frames.") from error


def _transfer_syntax(dataset: Dataset) -> UID:
    meta = getattr(dataset, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    if not syntax:
        raise InputError("Transfer Syntax UID is missing.")
    return UID(syntax)


def _decoded_frames(dataset: Dataset, indices: Sequence[int]) -> Iterator[NDArray[np.integer]]:
    """Decode frames, given from 0; yields stored values ``[row, column]`` with signs as Pixel Representation says."""
    syntax = _transfer_syntax(dataset)
    # The decoder would shift unused bits out unseen: a 13-bit value in a dataset that says 12 turns into another.
    by_decoder = syntax in JPEG2000TransferSyntaxes or syntax in JPEGLSTransferSyntaxes
    frames = iter_pixels(dataset, indices=list(indices), raw=True, correct_unused_bits=False)
    try:
        for stored in frames:
            yield stored if by_decoder else _without_unused_bits(dataset, stored)
    except _UNDECODABLE as error:
        why = " ".join(str(error).split())
        raise InputError(f"pixels in transfer syntax {syntax.name} cannot be decoded: {why}") from error
    except BaseException as error:
        # The RLE decoder is written in Rust. When it panics on damaged data, what arrives here is no Exception and
        # would stop the process; its class has no name to import.
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(f"pixels in transfer syntax {syntax.name} cannot be decoded: damaged") from error


def _without_unused_bits(dataset: Dataset, stored: NDArray[np.integer]) -> NDArray[np.integer]:
    """Extend the sign over the bits above Bits Stored (PS3.5 8.1.1), where they hold it not already."""
    bits_stored = int(dataset.BitsStored)
    if int(dataset.HighBit) != bits_stored - 1:  # PS3.5 8.1.1: High Bit shall be one less than Bits Stored
        raise InputError(f"High Bit is {dataset.HighBit} with Bits Stored {bits_stored}.")
    unused = int(dataset.BitsAllocated) - bits_stored
    extended = (stored << unused) >> unused
    if np.array_equal(extended, stored):
        return stored
    beyond = np.any(stored.astype(np.int64) >> bits_stored)
    if beyond and not _has_embedded_overlay(dataset):
        raise InputError(f"stored values of {stored.min()} to {stored.max()} do not fit Bits Stored {bits_stored}.")
    return extended


def _has_embedded_overlay(dataset: Dataset) -> bool:
    """Tell whether an overlay lies in the unused bits: Overlay Bit Position (60xx,0102), retired."""
    return any(dataset.get((group, 0x0102)) is not None for group in range(0x6000, 0x6020, 2))


def _rescale(dataset: Dataset, frame_number: int, modality: str) -> _Rescale:
    source = functional_group(dataset, frame_number, "PixelValueTransformationSequence") or dataset
    try:
        slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
        rescale_type = str(source.get("RescaleType") or "")
        if slope is None and intercept is None and modality not in _NEEDS_RESCALE:
            return _Rescale(slope=1.0, intercept=0.0)
        if slope is None or intercept is None:
            raise InputError("Rescale Slope or Rescale Intercept is missing.")
        rescale = _Rescale(slope=float(slope), intercept=float(intercept))
    except (TypeError, ValueError) as error:
        raise InputError("Rescale Slope or Rescale Intercept is no number.") from error
    if modality == "CT" and rescale_type not in _HOUNSFIELD:
        raise InputError(f"Rescale Type is {rescale_type}, not Hounsfield units (HU).")
    if not np.isfinite([rescale.slope, rescale.intercept]).all() or rescale.slope == 0:
        raise InputError(f"Rescale Slope {slope} and Rescale Intercept {intercept} are no transformation.")
    return rescale


def _apply(rescale: _Rescale, stored: NDArray[np.integer], voxels: NDArray[np.float32]) -> None:
    if stored.dtype.itemsize > 2:  # float32 holds no 32-bit integer exactly
        voxels[...] = stored * np.float64(rescale.slope) + rescale.intercept
        return
    np.multiply(stored, np.float32(rescale.slope), out=voxels)
    np.add(voxels, np.float32(rescale.intercept), out=voxels)
