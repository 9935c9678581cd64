"""RLE Lossless as PS3.5 annex G encodes it, read by pydicom's own decoder."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import RLELossless

from node.dicom.rle import rle_frame


def decoded(frame: bytes, like: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    dataset = Dataset()
    dataset.Rows, dataset.Columns = like.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated = dataset.BitsStored = like.dtype.itemsize * 8
    dataset.PixelData = encapsulate([frame])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = RLELossless
    array, _ = get_decoder(RLELossless).as_array(dataset, decoding_plugin="pydicom")
    return np.asarray(array, dtype=like.dtype)


def test_runs_and_literals_are_those_that_the_standard_describes() -> None:
    row = np.array([[7, 7, 7, 7, 1, 2, 3, 3]], dtype=np.uint8)

    frame = rle_frame(row)

    # One segment after a header of 64 bytes: -3 replicates 7 four times, 3 stands before four literal bytes.
    assert struct.unpack("<16L", frame[:64]) == (1, 64, *[0] * 14)
    assert list(frame[64:]) == [253, 7, 3, 1, 2, 3, 3, 0]


def test_a_run_of_129_leaves_one_literal_byte() -> None:
    assert list(rle_frame(np.full((1, 129), 9, dtype=np.uint8))[64:]) == [129, 9, 0, 9]


def test_no_run_goes_beyond_its_row() -> None:
    assert list(rle_frame(np.full((2, 3), 5, dtype=np.uint8))[64:]) == [254, 5, 254, 5]


def test_the_more_significant_byte_comes_first() -> None:
    frame = rle_frame(np.full((1, 4), 0x0102, dtype=np.uint16))

    assert struct.unpack("<3L", frame[:12]) == (2, 64, 66)
    assert list(frame[64:]) == [253, 1, 253, 2]


@settings(max_examples=200, deadline=None)
@given(
    arrays.arrays(
        dtype=st.sampled_from([np.uint8, np.uint16]),
        shape=st.tuples(st.integers(1, 5), st.integers(1, 300)),
        elements=st.sampled_from([0, 1, 255]),
    ),
    st.integers(1, 140),
)
def test_every_frame_survives(pixels: NDArray[np.unsignedinteger], wide: int) -> None:
    pixels = np.repeat(pixels, wide, axis=1)[:, :1000]

    np.testing.assert_array_equal(decoded(rle_frame(pixels), pixels), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (3, 257)])
def test_noise_grows_by_one_byte_in_128(shape: tuple[int, int]) -> None:
    noise = np.arange(shape[0] * shape[1], dtype=np.uint32).astype(np.uint8).reshape(shape)

    frame = rle_frame(noise)

    np.testing.assert_array_equal(decoded(frame, noise), noise)
    assert len(frame) <= 64 + noise.size + shape[0] * -(-shape[1] // 128) + 1
