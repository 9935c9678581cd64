"""Draw delivered contours on the series that they belong to: three planes and a legend in one PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from node import DISCLAIMER
from node.demo.delivered import RGB, DeliveredStructure, structures_from_rtstruct
from node.demo.panel import OVERSAMPLING, QUIET, TEXT, WINDOW_CENTRE_HU, WINDOW_WIDTH_HU, Crop, Panel, font
from node.demo.views import Side, View, three_views
from node.domain.volume import Volume

__all__ = ["DeliveredStructure", "draw", "structures_from_rtstruct"]

Mask = NDArray[np.bool_]

WIDTH_PX, MARGIN_PX, GAP_PX, FOOTER_PX = 1320, 20, 12, 38
# A legend needs this much, also beside a narrow view.
LEGEND_PX = (330, 260)
ROW_PX = 30
BACKGROUND: RGB = (13, 17, 23)
# Shown around what was contoured.
AROUND_MM = 16.0
SCALE_BAR_MM = 50.0


def draw(volume: Volume, structures: Sequence[DeliveredStructure], path: Path, notes: Sequence[str] = ()) -> None:
    """Draw three planes through the middle of the inner structures, with a legend, into a PNG.

    Axial above coronal at the left, the legend above sagittal at the right, all at one scale in mm: sides agree down
    the left column and heights along the lower row.

    Parameters
    ----------
    notes
        Lines under the legend; long ones are wrapped.
    """
    views = three_views(volume.grid, _middle(structures, volume))
    crops = [_crop(view, structures) for view in views]
    room = WIDTH_PX - 2 * MARGIN_PX - GAP_PX
    scale = min(room / (crops[0].width + crops[2].width), (room - LEGEND_PX[0]) / crops[0].width)
    panels = [Panel(view=view, crop=crop, scale=scale) for view, crop in zip(views, crops, strict=True)]
    axial, coronal, sagittal = (panel.size_px for panel in panels)
    below = MARGIN_PX + max(axial[1], LEGEND_PX[1]) + GAP_PX
    beside = MARGIN_PX + max(axial[0], coronal[0]) + GAP_PX
    height = below + max(coronal[1], sagittal[1]) + FOOTER_PX
    sheet = Image.new("RGB", (WIDTH_PX * OVERSAMPLING, height * OVERSAMPLING), BACKGROUND)
    corners = ((MARGIN_PX, MARGIN_PX), (MARGIN_PX, below), (beside, below))
    for panel, (x, y) in zip(panels, corners, strict=True):
        others = [view for view in views if view is not panel.view]
        sheet.paste(panel.draw(volume, structures, others), (x * OVERSAMPLING, y * OVERSAMPLING))
    pen = ImageDraw.Draw(sheet)
    _write_legend(
        pen, structures, (*notes, _described(volume)), (beside, MARGIN_PX, WIDTH_PX - MARGIN_PX, below - GAP_PX)
    )
    _write_footer(pen, height - FOOTER_PX / 2, scale)
    sheet.reduce(OVERSAMPLING).save(path, optimize=True)


def _middle(structures: Sequence[DeliveredStructure], volume: Volume) -> tuple[int, int, int]:
    """Give the voxel in the middle of what lies inside the body, or of the volume where nothing was contoured."""
    inner = [structure.mask for structure in structures if structure.interpreted_type != "EXTERNAL"]
    masks = [mask for mask in inner if mask.any()] or [structure.mask for structure in structures]
    union = np.logical_or.reduce(masks) if masks else np.zeros(volume.grid.shape, dtype=np.bool_)
    if not union.any():
        slices, rows, columns = volume.grid.shape
        return slices // 2, rows // 2, columns // 2
    return _median(union, 0), _median(union, 1), _median(union, 2)


def _median(mask: Mask, axis: int) -> int:
    """Give the index along an axis that has as many voxels before it as behind it."""
    counts = mask.sum(axis=tuple(other for other in range(3) if other != axis)).cumsum()
    return int(np.searchsorted(counts, counts[-1] / 2))


def _crop(view: View, structures: Sequence[DeliveredStructure]) -> Crop:
    left, right = _extent(view.across, structures)
    top, bottom = _extent(view.down, structures)
    return Crop(left=left, top=top, width=right - left, height=bottom - top)


def _extent(side: Side, structures: Sequence[DeliveredStructure]) -> tuple[float, float]:
    """Give where the structures begin and end along a side, in mm, with some air, inside the image."""
    elsewhere = tuple(axis for axis in range(3) if axis != side.axis)
    full = side.pixels * side.spacing_mm
    filled = [np.flatnonzero(structure.mask.any(axis=elsewhere)) for structure in structures]
    found = np.concatenate([*filled, np.empty(0, dtype=np.intp)])
    if not found.size:
        return 0.0, full
    ends = np.sort(side.mm(np.array([found.min(), found.max()], dtype=np.float64)))
    return max(0.0, float(ends[0]) - AROUND_MM), min(full, float(ends[1]) + AROUND_MM)


def _write_legend(
    pen: ImageDraw.ImageDraw,
    structures: Sequence[DeliveredStructure],
    notes: Sequence[str],
    box: tuple[int, int, int, int],
) -> None:
    left, top, right, bottom = box
    lines = [line for note in notes for line in _wrapped(note, right - left)]
    _write(pen, (left, top + 2), "Delineate", TEXT, 30)
    _write(pen, (left, top + 42), "contours as delivered", QUIET, 15)
    first = top + 82
    fitting = max(1, (bottom - first - 22 * len(lines) - ROW_PX) // ROW_PX)
    for number, structure in enumerate(structures[:fitting]):
        _write_row(pen, structure, (left, right), first + number * ROW_PX)
    y = first + min(fitting, len(structures)) * ROW_PX
    if len(structures) > fitting:
        _write(pen, (left + 26, y), f"and {len(structures) - fitting} more", QUIET, 15)
    for number, line in enumerate(lines):
        _write(pen, (left, bottom - 22 * (len(lines) - number)), line, QUIET, 15)


def _write_footer(pen: ImageDraw.ImageDraw, y: float, scale: float) -> None:
    """Write the disclaimer, the window, and a bar of the scale that all views share."""
    _write(pen, (MARGIN_PX, y), DISCLAIMER, QUIET, 14, "lm")
    right = WIDTH_PX - MARGIN_PX
    left = right - SCALE_BAR_MM * scale
    for line in ((left, y, right, y), (left, y - 4, left, y + 4), (right, y - 4, right, y + 4)):
        pen.line([end * OVERSAMPLING for end in line], QUIET, OVERSAMPLING)
    text = f"W {WINDOW_WIDTH_HU:.0f}  L {WINDOW_CENTRE_HU:.0f}     {SCALE_BAR_MM / 10:.0f} cm"
    _write(pen, (left - 10, y), text, QUIET, 14, "rm")


def _described(volume: Volume) -> str:
    slices, rows, columns = volume.grid.shape
    between_slices, between_rows, between_columns = volume.grid.spacing_mm
    pixels = f"{rows} x {columns} pixels of {between_rows:.2f} x {between_columns:.2f} mm"
    return f"{slices} slices {between_slices:.2f} mm apart, {pixels}"


def _write_row(pen: ImageDraw.ImageDraw, structure: DeliveredStructure, ends: tuple[int, int], y: int) -> None:
    left, right = ends
    square = tuple(OVERSAMPLING * value for value in (left, y + 2, left + 15, y + 17))
    pen.rounded_rectangle(square, radius=3 * OVERSAMPLING, fill=structure.colour_rgb)
    _write(pen, (left + 26, y), structure.name, TEXT, 18)
    # Pillow's font has no superscripts (nor a multiplication sign).
    _write(pen, (right, y - 3), "3", TEXT, 12, "ra")
    _write(pen, (right - 8, y), f"{structure.volume_cm3:,.1f} cm".replace(",", " "), TEXT, 18, "ra")


def _wrapped(text: str, width_px: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font(15).getlength(longer) > width_px * OVERSAMPLING:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: RGB, size_px: int, anchor: str = "la"
) -> None:
    pen.text((place[0] * OVERSAMPLING, place[1] * OVERSAMPLING), text, colour, font(size_px), anchor=anchor)
