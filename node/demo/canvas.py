"""Paint shapes in millimetres onto one axial slice, antialiased."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Point = tuple[float, float, float]
Window = tuple[slice, slice]

AIR_HU = -1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipse:
    """A superellipse in the slice's plane: ``|u/rx|**power + |v/ry|**power = 1``, turned about its centre."""

    x: float
    y: float
    rx: float
    ry: float
    # From the x axis towards the y axis.
    turn_degrees: float = 0.0
    power: float = 2.0

    def grown(self, margin_mm: float) -> "Ellipse":
        """Give the same ellipse with both half-axes longer by a margin, at least 0.1 mm."""
        return Ellipse(
            x=self.x,
            y=self.y,
            rx=max(self.rx + margin_mm, 0.1),
            ry=max(self.ry + margin_mm, 0.1),
            turn_degrees=self.turn_degrees,
            power=self.power,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tube:
    """A straight round rod between two points, tapering from one radius to the other."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    def reaches(self, z: float) -> bool:
        """Tell whether the rod may cross the plane at this height."""
        margin = max(self.start_radius, self.end_radius)
        return min(self.start[2], self.end[2]) - margin < z < max(self.start[2], self.end[2]) + margin


class Canvas:
    """One axial slice: Hounsfield units and the share of bone per pixel.

    Distances are millimetres, negative inside a shape. A shape's edge is one pixel wide, so that a pixel holds the
    share of the shape that covers it.

    Parameters
    ----------
    x_mm, y_mm
        Positions of the pixel centres: columns (left positive) and rows (posterior positive).
    """

    def __init__(self, x_mm: Field, y_mm: Field, z_mm: float) -> None:
        self.x = x_mm.astype(np.float32)[np.newaxis, :]
        self.y = y_mm.astype(np.float32)[:, np.newaxis]
        self.z = z_mm
        shape = (y_mm.size, x_mm.size)
        self.hu = np.full(shape, AIR_HU, dtype=np.float32)
        self.bone = np.zeros(shape, dtype=np.float32)
        self._edge_mm = float(np.mean([abs(x_mm[1] - x_mm[0]), abs(y_mm[1] - y_mm[0])]))

    @property
    def everywhere(self) -> Window:
        """Give the window of the whole slice."""
        return slice(0, self.y.size), slice(0, self.x.size)

    def window(self, x: tuple[float, float], y: tuple[float, float]) -> Window:
        """Give the pixels between two positions in each direction, one edge's width wider."""
        columns = np.searchsorted(self.x[0], (x[0] - self._edge_mm, x[1] + self._edge_mm))
        rows = np.searchsorted(self.y[:, 0], (y[0] - self._edge_mm, y[1] + self._edge_mm))
        return slice(int(rows[0]), int(rows[1])), slice(int(columns[0]), int(columns[1]))

    def around(self, ellipse: Ellipse) -> Window:
        """Give the window that holds an ellipse."""
        if ellipse.turn_degrees:
            reach_x = reach_y = max(ellipse.rx, ellipse.ry)
        else:
            reach_x, reach_y = ellipse.rx, ellipse.ry
        return self.window((ellipse.x - reach_x, ellipse.x + reach_x), (ellipse.y - reach_y, ellipse.y + reach_y))

    def distance(self, ellipse: Ellipse, window: Window) -> Field:
        """Give the distance to an ellipse, true to first order near its edge."""
        dx, dy = self.x[:, window[1]] - ellipse.x, self.y[window[0]] - ellipse.y
        u, v = dx, dy
        if ellipse.turn_degrees:
            cosine, sine = np.cos(np.radians(ellipse.turn_degrees)), np.sin(np.radians(ellipse.turn_degrees))
            u, v = dx * np.float32(cosine) + dy * np.float32(sine), dy * np.float32(cosine) - dx * np.float32(sine)
        u, v = np.abs(u) / np.float32(ellipse.rx), np.abs(v) / np.float32(ellipse.ry)
        if ellipse.power == 2.0:
            level = np.sqrt(u * u + v * v)
            slope = np.sqrt((u / ellipse.rx) ** 2 + (v / ellipse.ry) ** 2) / np.maximum(level, 1e-3)
        else:
            power = np.float32(ellipse.power)
            level = (u**power + v**power) ** np.float32(1 / ellipse.power)
            base = np.maximum(level, 1e-3)
            slope = np.hypot(
                (u / base) ** (power - 1) / np.float32(ellipse.rx), (v / base) ** (power - 1) / np.float32(ellipse.ry)
            )
        return np.asarray((level - 1) / np.maximum(slope, 1e-4), dtype=np.float32)

    def tube_distance(self, tube: Tube, window: Window) -> Field:
        """Give the distance in space from each pixel to a rod."""
        start = np.array(tube.start, dtype=np.float32)
        axis = np.array(tube.end, dtype=np.float32) - start
        x, y, z = self.x[:, window[1]] - start[0], self.y[window[0]] - start[1], np.float32(self.z - start[2])
        along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) / max(float(axis @ axis), 1e-6), 0, 1)
        across = np.sqrt((x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2)
        radius = tube.start_radius + along * (tube.end_radius - tube.start_radius)
        return np.asarray(across - radius, dtype=np.float32)

    def coverage(self, distance: Field) -> Field:
        """Give the share of each pixel inside a shape, 0 to 1."""
        return np.asarray(np.clip(np.float32(0.5) - distance / np.float32(self._edge_mm), 0, 1), dtype=np.float32)

    def paint(self, window: Window, coverage: Field, hu: float) -> None:
        """Lay tissue over what is there."""
        under = self.hu[window]
        under += coverage * (np.float32(hu) - under)

    def paint_bone(self, window: Window, distance: Field, hu: tuple[float, float], cortex_mm: float) -> None:
        """Lay bone over what is there: a shell of the first value around marrow of the second."""
        covered = self.coverage(distance)
        self.paint(window, covered, hu[0])
        self.paint(window, self.coverage(distance + np.float32(cortex_mm)), hu[1])
        np.maximum(self.bone[window], covered, out=self.bone[window])

    def fill(self, ellipse: Ellipse, hu: float) -> None:
        """Paint an ellipse."""
        window = self.around(ellipse)
        self.paint(window, self.coverage(self.distance(ellipse, window)), hu)

    def fill_bone(self, ellipse: Ellipse, hu: tuple[float, float], cortex_mm: float = 1.5) -> None:
        """Paint an ellipse of bone."""
        window = self.around(ellipse)
        self.paint_bone(window, self.distance(ellipse, window), hu, cortex_mm)

    def around_tube(self, tube: Tube) -> Window:
        """Give the window that holds a rod."""
        reach = max(tube.start_radius, tube.end_radius)
        (x0, y0, _), (x1, y1, _) = tube.start, tube.end
        return self.window((min(x0, x1) - reach, max(x0, x1) + reach), (min(y0, y1) - reach, max(y0, y1) + reach))

    def fill_tube(self, tube: Tube, hu: float) -> None:
        """Paint a rod where it crosses the slice."""
        if tube.reaches(self.z):
            window = self.around_tube(tube)
            self.paint(window, self.coverage(self.tube_distance(tube, window)), hu)

    def fill_bone_tube(self, tube: Tube, hu: tuple[float, float], cortex_mm: float = 1.5) -> None:
        """Paint a rod of bone where it crosses the slice."""
        if tube.reaches(self.z):
            window = self.around_tube(tube)
            self.paint_bone(window, self.tube_distance(tube, window), hu, cortex_mm)
