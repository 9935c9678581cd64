"""The geometries, normalisations and outputs in which parity with nnU-Net v2 is measured.

A case holds facts only: it imports neither torch nor nnU-Net, so that a test of the node may read it too. Axes: an
image is ``[channel, z, y, x]``; every spacing of an image is ``(z, y, x)`` in millimetres, that of a plan is in the
order that ``transpose_forward`` makes.
"""

from dataclasses import dataclass, field
from typing import Literal

Architecture = Literal["PlainConvUNet", "ResidualEncoderUNet"]
Background = Literal["textured", "zero border", "zero border and holes"]
Axes = tuple[int, int, int]
Extent = tuple[float, float, float]
Labels = dict[str, int | list[int]]

CLOSE_TO_CUBIC: tuple[Axes, ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
THICK_SLICES: tuple[Axes, ...] = ((1, 1, 1), (1, 2, 2), (2, 2, 2))


def numbered_labels(count: int) -> Labels:
    """Give a background and ``count`` structures."""
    return {"background": 0, **{f"structure {value}": value for value in range(1, count + 1)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One results folder of random weights and the volume that it contours."""

    name: str
    # What of nnU-Net the case is there for.
    shows: str
    architecture: Architecture = "PlainConvUNet"
    # Of each stage, the finest first; as many as there are strides count.
    features: tuple[int, ...] = (8, 16, 32)
    # Random weights give neighbouring voxels any label. True lets them agree by regions, as trained weights do.
    coherent: bool = False
    # Names of channels; nnU-Net derives the normalisation from them ("CT" or not).
    channels: tuple[str, ...] = ("CT",)
    normalization_schemes: tuple[str, ...] = ("CTNormalization",)
    use_mask_for_norm: bool = False
    plan_spacing_mm: Extent = (1.5, 1.5, 1.5)
    patch_size: Axes = (24, 40, 32)
    strides: tuple[Axes, ...] = CLOSE_TO_CUBIC
    transpose_forward: Axes = (0, 1, 2)
    labels: Labels = field(default_factory=lambda: numbered_labels(4))
    regions_class_order: tuple[int, ...] | None = None
    folds: int = 1
    # Axes of the transposed image, as the checkpoint names them.
    mirroring_axes: tuple[int, ...] | None = None
    tile_step_size: float = 0.5
    shape: Axes = (30, 62, 51)
    spacing_mm: Extent = (2.0, 1.3, 1.1)
    background: Background = "textured"
    # Read and written through NIfTI files by nnU-Net's SimpleITKIO, instead of as an array.
    through_files: bool = False


CASES = (
    Case(
        name="ct_isotropic",
        shows="CT normalisation, cubic resampling in three dimensions",
    ),
    Case(
        name="ct_residual_encoder",
        shows="the residual encoder, five sixths of a step",
        architecture="ResidualEncoderUNet",
        tile_step_size=5 / 6,
        shape=(33, 64, 47),
        spacing_mm=(1.7, 1.2, 1.4),
    ),
    Case(
        name="ct_same_spacing",
        shows="no resampling at all",
        spacing_mm=(1.5, 1.5, 1.5),
        shape=(37, 45, 50),
    ),
    Case(
        name="ct_smaller_than_patch",
        shows="padding by an odd number of voxels on two axes",
        shape=(13, 40, 26),
        spacing_mm=(1.9, 1.6, 1.5),
    ),
    Case(
        name="ct_anisotropic",
        shows="anisotropic spacing below the threshold of three: still three dimensions at once",
        plan_spacing_mm=(2.5, 1.0, 1.0),
        patch_size=(16, 40, 32),
        strides=THICK_SLICES,
        shape=(26, 58, 63),
        spacing_mm=(2.0, 0.8, 0.9),
    ),
    Case(
        name="ct_thick_slices",
        shows="separate z: the image is anisotropic, clipped slice by slice, order 0 between slices",
        architecture="ResidualEncoderUNet",
        plan_spacing_mm=(5.0, 1.2, 1.2),
        patch_size=(12, 40, 32),
        strides=THICK_SLICES,
        shape=(22, 66, 57),
        spacing_mm=(4.0, 0.9, 0.95),
    ),
    Case(
        name="ct_thick_plan",
        shows="separate z for the plan's spacing only: the image itself is close to cubic",
        plan_spacing_mm=(4.0, 1.1, 1.1),
        patch_size=(12, 40, 32),
        strides=THICK_SLICES,
        shape=(41, 52, 60),
        spacing_mm=(2.2, 1.0, 0.9),
    ),
    Case(
        name="ct_two_coarse_axes",
        shows="ratio above three with two coarse axes: separate z is left out",
        plan_spacing_mm=(1.0, 1.0, 1.0),
        shape=(60, 22, 20),
        spacing_mm=(0.8, 3.0, 3.0),
    ),
    Case(
        name="ct_transposed_mirrored",
        shows="transpose (1, 0, 2) with coarse coronal slices, mirroring of all three axes",
        plan_spacing_mm=(4.0, 1.2, 1.2),
        patch_size=(12, 40, 32),
        strides=THICK_SLICES,
        transpose_forward=(1, 0, 2),
        mirroring_axes=(0, 1, 2),
        shape=(58, 18, 49),
        spacing_mm=(1.0, 4.5, 1.1),
    ),
    Case(
        name="ct_rotated_axes",
        shows="transpose (2, 0, 1), which is not its own inverse; mirroring of two axes; non-zero crop",
        plan_spacing_mm=(1.8, 1.4, 1.2),
        transpose_forward=(2, 0, 1),
        mirroring_axes=(0, 2),
        shape=(48, 50, 40),
        spacing_mm=(1.3, 1.1, 2.1),
        background="zero border",
    ),
    Case(
        name="ct_two_folds",
        shows="the mean of the logits of two folds",
        folds=2,
        shape=(28, 55, 48),
        spacing_mm=(2.4, 1.2, 1.3),
    ),
    Case(
        name="mr_whole_image",
        shows="z-score over the whole image",
        architecture="ResidualEncoderUNet",
        channels=("T2",),
        normalization_schemes=("ZScoreNormalization",),
        shape=(29, 60, 54),
        spacing_mm=(2.1, 1.25, 1.15),
    ),
    Case(
        name="mr_masked",
        shows="z-score over the non-zero mask with its holes filled, non-zero crop",
        channels=("T1",),
        normalization_schemes=("ZScoreNormalization",),
        use_mask_for_norm=True,
        background="zero border and holes",
        shape=(34, 63, 56),
        spacing_mm=(1.8, 1.2, 1.3),
    ),
    Case(
        name="two_channels",
        shows="CT beside a z-scored channel; the crop keeps what is non-zero in either",
        channels=("CT", "PET"),
        normalization_schemes=("CTNormalization", "ZScoreNormalization"),
        background="zero border",
    ),
    Case(
        name="rescaled",
        shows="scaling to 0..1 over the image",
        channels=("rescale_to_0_1",),
        normalization_schemes=("RescaleTo01Normalization",),
        shape=(27, 58, 49),
    ),
    Case(
        name="regions",
        shows="overlapping regions by sigmoid, written in an order that is not that of their numbers",
        labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
        regions_class_order=(2, 1, 3),
        channels=("T1", "FLAIR"),
        normalization_schemes=("ZScoreNormalization", "ZScoreNormalization"),
    ),
    Case(
        name="many_labels",
        shows="300 structures, hence uint16",
        labels=numbered_labels(300),
        patch_size=(16, 24, 24),
        shape=(20, 30, 26),
        spacing_mm=(1.9, 1.8, 1.2),
    ),
    Case(
        name="through_files",
        shows="an oblique NIfTI file read and written by nnU-Net itself",
        through_files=True,
        shape=(26, 61, 45),
    ),
)


def case(name: str) -> Case:
    """Give the case of that name; raises `KeyError` where there is none."""
    return {one.name: one for one in CASES}[name]
