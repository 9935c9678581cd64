"""Draw one view: the image, the contours on it, letters at its edges, and where the other views cut it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from node.demo.delivered import RGB, DeliveredStructure
from node.demo.views import View, edges_mm, outlines
from node.domain.scanlines import pixels
from node.domain.volume import Volume

# Everything is drawn this many times larger and reduced at the end: that is the antialiasing.
OVERSAMPLING = 3

# Soft tissue, as planning systems open a CT.
WINDOW_CENTRE_HU, WINDOW_WIDTH_HU = 40.0, 400.0

LINE_PX, RIM_PX = 2.0, 0.8
FILL_SHARE = 0.25
DASH_PX, GAP_PX = 3, 6

TEXT: RGB = (230, 237, 243)
QUIET: RGB = (139, 148, 158)
CROSSHAIR: RGB = (94, 108, 122)
FRAME: RGB = (48, 54, 61)
RIM: RGB = (0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """The part of a view that is shown, in mm from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One view of a volume, cropped, at ``scale`` pixels per mm (before oversampling)."""

    view: View
    crop: Crop
    scale: float

    @property
    def size_px(self) -> tuple[int, int]:
        """Give width and height."""
        return round(self.crop.width * self.scale), round(self.crop.height * self.scale)

    def position_px(self, across_down_mm: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Give where points of the view fall in the oversampled panel."""
        corner = np.array([self.crop.left, self.crop.top])
        return [(x, y) for x, y in ((across_down_mm - corner) * self.scale * OVERSAMPLING).tolist()]

    def draw(self, volume: Volume, structures: Sequence[DeliveredStructure], others: Sequence[View]) -> Image.Image:
        """Draw the panel, oversampled."""
        image = self._resized(_grey(self.view.plane(volume.voxels))).convert("RGB")
        for structure in structures:
            if structure.interpreted_type != "EXTERNAL":
                self._fill(image, structure)
        pen = ImageDraw.Draw(image)
        self._draw_crosshair(pen, others)
        for structure in structures:
            lines = [self.position_px(line) for line in contour_lines_mm(self.view, structure, volume)]
            # A dark rim first: light colours are then seen on bone, dark ones on air.
            for colour, width in ((RIM, LINE_PX + 2 * RIM_PX), (structure.colour_rgb, LINE_PX)):
                for line in lines:
                    pen.line(line, colour, round(width * OVERSAMPLING), joint="curve")
        self._annotate(pen, volume.grid.shape)
        pen.rectangle((0, 0, image.width - 1, image.height - 1), outline=FRAME, width=OVERSAMPLING)
        return image

    def _resized(self, plane: NDArray[np.uint8]) -> Image.Image:
        across, down, crop = self.view.across.spacing_mm, self.view.down.spacing_mm, self.crop
        # Rounding must not reach beyond the image.
        right = min((crop.left + crop.width) / across, plane.shape[1])
        bottom = min((crop.top + crop.height) / down, plane.shape[0])
        size = (self.size_px[0] * OVERSAMPLING, self.size_px[1] * OVERSAMPLING)
        box = (crop.left / across, crop.top / down, right, bottom)
        return Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC, box=box)

    def _fill(self, image: Image.Image, structure: DeliveredStructure) -> None:
        inside = self._resized(self.view.plane(structure.mask).astype(np.uint8) * np.uint8(255))
        share = inside.point([int(255 * FILL_SHARE) if value > 127 else 0 for value in range(256)])
        image.paste(structure.colour_rgb, (0, 0, image.width, image.height), share)

    def _draw_crosshair(self, pen: ImageDraw.ImageDraw, others: Sequence[View]) -> None:
        width, height = (side * OVERSAMPLING for side in self.size_px)
        step, dash = (DASH_PX + GAP_PX) * OVERSAMPLING, DASH_PX * OVERSAMPLING
        for other in others:
            if other.axis == self.view.across.axis:
                at = (float(self.view.across.mm(np.array(other.index))) - self.crop.left) * self.scale * OVERSAMPLING
                for y in range(0, height, step):
                    pen.line((at, y, at, y + dash), CROSSHAIR, OVERSAMPLING)
            elif other.axis == self.view.down.axis:
                at = (float(self.view.down.mm(np.array(other.index))) - self.crop.top) * self.scale * OVERSAMPLING
                for x in range(0, width, step):
                    pen.line((x, at, x + dash, at), CROSSHAIR, OVERSAMPLING)

    def _annotate(self, pen: ImageDraw.ImageDraw, slices_rows_columns: tuple[int, int, int]) -> None:
        width, height = self.size_px
        view, pad = self.view, 9
        (left, right), (top, bottom) = view.across.letters, view.down.letters
        write(pen, (pad, height / 2), left, TEXT, 15, "lm")
        write(pen, (width - pad, height / 2), right, TEXT, 15, "rm")
        write(pen, (width / 2, pad), top, TEXT, 15, "mt")
        write(pen, (width / 2, height - pad), bottom, TEXT, 15, "mb")
        write(pen, (pad, pad), view.name, TEXT, 16, "lt")
        what = ("slice", "row", "column")[view.axis]
        write(pen, (pad, pad + 21), f"{what} {view.index + 1} of {slices_rows_columns[view.axis]}", TEXT, 12, "lt")


def contour_lines_mm(view: View, structure: DeliveredStructure, volume: Volume) -> Iterator[NDArray[np.float64]]:
    """Give the lines of a structure on a view, (across, down) in mm.

    On the slices' own plane these are the delivered polygons themselves, point by point; on the others the edge of
    what they enclose.
    """
    if view.axis != 0:
        yield from edges_mm(view, structure.mask)
        return
    plane = volume.grid.planes[view.index]
    for contour in structure.contours:
        if contour.slice_index == view.index:
            ring = pixels(plane, contour.points_lps_mm)
            indices = np.column_stack([np.full(len(ring), float(view.index)), ring])
            yield from outlines(view.mm(indices))


def write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: RGB, size_px: int, anchor: str
) -> None:
    """Write text at a place in pixels, with a dark rim that keeps it legible on any tissue."""
    at = (place[0] * OVERSAMPLING, place[1] * OVERSAMPLING)
    pen.text(at, text, colour, font(size_px), anchor=anchor, stroke_width=OVERSAMPLING, stroke_fill=RIM)


def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Give Pillow's own scalable font, oversampled."""
    return ImageFont.load_default(size_px * OVERSAMPLING)


def _grey(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    share = (plane - (WINDOW_CENTRE_HU - WINDOW_WIDTH_HU / 2)) / WINDOW_WIDTH_HU
    return np.asarray(np.rint(np.clip(share, 0, 1) * 255), dtype=np.uint8)
