"""What a manifest says of the network: ``[input]``, ``[window]``, ``[output]`` and ``[[graphs]]``.

Networks are of two kinds. One takes the volume as it is, or so many of its slices at once: without ``[window]``. The
other, as nnU-Net trains them, looks through a window of one size that slides over the volume: with ``[window]``. Each
kind has its own keys in ``[input]``.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from node.inference.tables import Table, is_number, keys

# What makes labels of the scores. "none": the highest score wins, and scores are no probabilities. "softmax": the
# highest wins, and scores are logits, of which softmax over the classes makes probabilities; the graph itself must not
# end in it. "regions": each score is the logit of a region of its own; regions may overlap.
Activation = Literal["softmax", "none", "regions"]

# Two ways to the network's spacing and back. "nnunet", nnU-Net v2: crop, normalise, resample with the outer faces
# kept; scores go back to the series' grid, interpolated linearly, and labels are made there. "totalsegmentator":
# resample with the outermost centres kept, cut the fraction off, crop, normalise; labels are made at the network's
# spacing, and the nearest goes back.
ResamplingKind = Literal["nnunet", "totalsegmentator"]

# Whether slices are resampled one by one: "auto" where they are thick.
Separation = Literal["auto", "always", "never"]

Crop = Literal["nonzero", "none"]

Scheme = Literal["fixed", "z_score", "range_0_1"]

# Opposite directions of the patient, PS3.3 C.7.6.1.1.1 (H and F there are S and I here, as image processing writes).
OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpecification:
    """How a network without a window wants its input: ``[input]``.

    The order of work is orient, resample, clip, normalise, pad.
    """

    # Direction of the patient in which column, row and slice index increase, e.g. "LPS" for an axial head-first stack.
    orientation: str
    # Between slices, rows and columns of the network's input; None ("source" in the manifest) keeps the series' own.
    spacing_mm: tuple[float | None, float | None, float | None]
    # Values outside are set to the limit; None leaves them.
    clip: tuple[float, float] | None = None
    # Subtracted and divided by after clipping; 0 and 1 change nothing.
    mean: float = 0.0
    standard_deviation: float = 1.0
    # Scanner value that stands for nothing: fills the padding.
    outside_value: float
    # Each axis is padded at its end to a multiple of this (slices, rows, columns).
    multiple_of: tuple[int, int, int] = (1, 1, 1)
    # For a network that looks at every slice alone: so many slices in one call. None: the whole volume in one call.
    slices_at_once: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel of a windowed network's input: ``[[input.channels]]``."""

    # What it is, e.g. "CT"; for the reader.
    name: str
    # "fixed": clip, then subtract mean and divide by standard_deviation as stated here. "z_score": subtract the image's
    # own mean, divide by its own deviation. "range_0_1": its least value becomes 0, its greatest 1.
    normalisation: Scheme
    clip: tuple[float, float] | None = None
    mean: float = 0.0
    standard_deviation: float = 1.0
    # Of a z-score: only voxels that are not zero, and what these enclose, count and change.
    masked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a network looks at a volume: ``[window]``. Axes are the network's."""

    patch: tuple[int, int, int]
    # Patches are at most this fraction of their side apart.
    step: float = 0.5
    # What a patch says counts by a Gaussian around its centre; a fraction of its sides.
    gaussian_sigma: float = 0.125
    # Each patch is also looked at mirrored along these axes, in every combination, and the mean is taken.
    mirror_axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowedInput:
    """How a network with a window wants its input: ``[input]`` and ``[window]``.

    Whatever the way, what does not fill a patch is padded with zeros after normalising.
    """

    # As above; "native" leaves the series' axes as they are.
    orientation: str
    # Network axis i is axis axis_order[i] of the oriented volume (slice, row, column); nnU-Net's transpose_forward.
    axis_order: tuple[int, int, int] = (0, 1, 2)
    # Of the network's axes.
    spacing_mm: tuple[float, float, float]
    resample: ResamplingKind = "nnunet"
    # Of the spline.
    order: int = 3
    # Of nnU-Net's alone: whether slices are resampled one by one, and the order of the spline across them then.
    separate_slices: Separation = "auto"
    order_between_slices: int = 0
    crop: Crop = "nonzero"
    channels: tuple[Channel, ...]
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What the network's scores mean: ``[output]``."""

    # Channels of the output. Channel n is the score of label value n, and 0 is the background; with regions, see there.
    classes: int
    activation: Activation = "none"
    # With "regions": the label that each channel's region gets, in the order of the channels; later ones override.
    # nnU-Net's regions_class_order.
    region_values: tuple[int, ...] = ()

    @property
    def label_values(self) -> tuple[int, ...]:
        """Give the values that labels can have, the background's 0 left out."""
        return tuple(sorted(self.region_values)) if self.region_values else tuple(range(1, self.classes))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """A network's file beside the manifest: one of ``[[graphs]]``. Of several, folds, the mean of the scores counts."""

    file: str
    sha256: str
    # "f16": a copy of the network in float16, with input and output in float32; in the order of the networks.
    precision: Literal["f32", "f16"] = "f32"


def read_input(table: Table) -> InputSpecification | WindowedInput:
    """Read ``[input]`` and, where there is one, ``[window]``.

    Raises
    ------
    SetupError
        A key is unknown, missing or out of range.
    """
    if "window" in table:
        window = _window(table.table("window", keys(Window)))
        return _windowed(table.table("input", keys(WindowedInput, without="window")), window)
    return _whole(table.table("input", keys(InputSpecification)))


def read_output(table: Table, network: InputSpecification | WindowedInput) -> Output:
    """Read ``[output]`` of a network with that input.

    Raises
    ------
    SetupError
        A key is unknown, missing or out of range, or contradicts another.
    """
    windowed = isinstance(network, WindowedInput)
    scores_go_back = not isinstance(network, WindowedInput) or network.resample == "nnunet"
    classes = table.integer("classes")
    activation: Activation = _one_of(table, "activation", Activation, "none")
    regions = table.integers("region_values") if "region_values" in table else ()
    least = 1 if activation == "regions" else 2
    if not least <= classes <= 65535:
        raise table.wrong("classes", f"must be between {least} and 65535, the background included")
    if (activation == "regions") != bool(regions) or (regions and len(regions) != classes):
        raise table.wrong("region_values", 'must be one value for each class with activation "regions", else left out')
    if not all(0 < value <= 65535 for value in regions) or len(set(regions)) != len(regions):
        raise table.wrong("region_values", "must be different numbers from 1 to 65535")
    if activation == "softmax" and not scores_go_back:
        raise table.wrong("activation", 'is softmax, which needs resample = "nnunet": scores do not go back otherwise')
    if regions and not windowed:
        raise table.wrong("activation", "is regions, which needs a network with a [window]")
    return Output(classes=classes, activation=activation, region_values=regions)


def read_graph(table: Table) -> GraphFile:
    """Read one of ``[[graphs]]``.

    Raises
    ------
    SetupError
        A key is unknown or missing, or the name is none of a file in the package's folder.
    """
    return GraphFile(
        file=table.match("file", _FILE_NAME, "a plain file name in the package's folder"),
        sha256=table.match("sha256", _SHA256, "64 lower-case hexadecimal digits"),
        precision=_one_of(table, "precision", Literal["f32", "f16"], "f32"),
    )


def _whole(table: Table) -> InputSpecification:
    multiple = table.integers("multiple_of") if "multiple_of" in table else (1, 1, 1)
    if len(multiple) != 3 or min(multiple) < 1:
        raise table.wrong("multiple_of", "must be three whole numbers from 1 on (slices, rows, columns)")
    at_once = table.integer("slices_at_once") if "slices_at_once" in table else None
    if at_once is not None and at_once < 1:
        raise table.wrong("slices_at_once", "must be 1 or more")
    return InputSpecification(
        orientation=_orientation(table),
        spacing_mm=_spacing_or_source(table),
        clip=_clip(table),
        mean=table.number("mean") if "mean" in table else 0.0,
        standard_deviation=table.positive("standard_deviation") if "standard_deviation" in table else 1.0,
        outside_value=table.number("outside_value"),
        multiple_of=(multiple[0], multiple[1], multiple[2]),
        slices_at_once=at_once,
    )


def _windowed(table: Table, window: Window) -> WindowedInput:
    native = table.text("orientation") == "native"
    axis_order = table.integers("axis_order") if "axis_order" in table else (0, 1, 2)
    if sorted(axis_order) != [0, 1, 2]:
        raise table.wrong("axis_order", "must hold 0, 1 and 2 once each")
    spacing = table.numbers("spacing_mm", 3)
    if min(spacing) <= 0:
        raise table.wrong("spacing_mm", "must be above 0")
    kind: ResamplingKind = _one_of(table, "resample", ResamplingKind, "nnunet")
    for key in ("separate_slices", "order_between_slices"):
        if key in table and kind != "nnunet":
            raise table.wrong(key, 'needs resample = "nnunet"')
    channels = tuple(_channel(each) for each in table.tables("channels", keys(Channel)))
    if not channels:
        raise table.wrong("channels", "is missing: one [[input.channels]] for each channel")
    return WindowedInput(
        orientation="native" if native else _orientation(table),
        axis_order=(axis_order[0], axis_order[1], axis_order[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        resample=kind,
        order=_order(table, "order", 3),
        order_between_slices=_order(table, "order_between_slices", 0),
        separate_slices=_one_of(table, "separate_slices", Separation, "auto"),
        crop=_one_of(table, "crop", Crop, "nonzero"),
        channels=channels,
        window=window,
    )


def _channel(table: Table) -> Channel:
    scheme: Scheme = _one_of(table, "normalisation", Scheme, None)
    masked = table.boolean("masked") if "masked" in table else False
    for key, belongs_to in (
        ("clip", "fixed"),
        ("mean", "fixed"),
        ("standard_deviation", "fixed"),
        ("masked", "z_score"),
    ):
        if key in table and scheme != belongs_to:
            raise table.wrong(key, f'needs normalisation = "{belongs_to}"')
    return Channel(
        name=table.text("name"),
        normalisation=scheme,
        clip=_clip(table),
        mean=table.number("mean") if "mean" in table else 0.0,
        standard_deviation=table.positive("standard_deviation") if "standard_deviation" in table else 1.0,
        masked=masked,
    )


def _window(table: Table) -> Window:
    patch = table.integers("patch")
    if len(patch) != 3 or min(patch) < 1:
        raise table.wrong("patch", "must be three whole numbers from 1 on")
    step = table.positive("step") if "step" in table else 0.5
    if step > 1:
        raise table.wrong("step", "must be at most 1: voxels between patches would be looked at by none")
    mirror_axes = table.integers("mirror_axes") if "mirror_axes" in table else ()
    if not set(mirror_axes) <= {0, 1, 2} or len(set(mirror_axes)) != len(mirror_axes):
        raise table.wrong("mirror_axes", "must be some of 0, 1 and 2, once each")
    return Window(
        patch=(patch[0], patch[1], patch[2]),
        step=step,
        gaussian_sigma=table.positive("gaussian_sigma") if "gaussian_sigma" in table else 0.125,
        mirror_axes=mirror_axes,
    )


def _orientation(table: Table) -> str:
    orientation = table.text("orientation")
    axes = {frozenset((letter, OPPOSITE.get(letter, ""))) for letter in orientation}
    if len(orientation) != 3 or len(axes) != 3 or not set(orientation) <= set(OPPOSITE):
        raise table.wrong("orientation", 'must be three letters, one of L/R, P/A and S/I each, e.g. "LPS"')
    return orientation


def _spacing_or_source(table: Table) -> tuple[float | None, float | None, float | None]:
    values = table.take("spacing_mm", list)
    if len(values) != 3 or not all(value == "source" or (is_number(value) and value > 0) for value in values):
        raise table.wrong("spacing_mm", 'must be three (slices, rows, columns) of millimetres or "source"')
    slices, rows, columns = (None if value == "source" else float(value) for value in values)
    return slices, rows, columns


def _clip(table: Table) -> tuple[float, float] | None:
    if "clip" not in table:
        return None
    lower, upper = table.numbers("clip", 2)
    if lower >= upper:
        raise table.wrong("clip", "must be [lower, upper]")
    return lower, upper


def _order(table: Table, key: str, otherwise: int) -> int:
    order = table.integer(key) if key in table else otherwise
    if not 0 <= order <= 5:
        raise table.wrong(key, "must be between 0 and 5")
    return order


def _one_of(table: Table, key: str, kind: Any, otherwise: _Choice | None) -> Any:
    if otherwise is not None and key not in table:
        return otherwise
    value = table.text(key)
    if value not in get_args(kind):
        raise table.wrong(key, f"is {value!r}; it must be one of {', '.join(get_args(kind))}")
    return value
