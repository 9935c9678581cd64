"""How series may lie in the patient, each with the millimetres of a structure's three feet, worked out by hand.

All have 6 planes of 24 rows × 40 columns, PixelSpacing 1.5\\0.8 and 3 mm between planes along their normal. The
structure stands on the planes 2 and 3 (from 0, along the normal) with three feet of 2 × 2 pixels each, the corners of
an L of unequal arms:

    corner        rows 3 and 4, columns 5 and 6: its middle at row 3.5, column 5.5
    along_row     rows 3 and 4, columns 25 and 26: at row 3.5, column 25.5
    along_column  rows 13 and 14, columns 5 and 6: at row 13.5, column 5.5

So from the centre of a plane's first pixel, the corner is 5.5 · 0.8 = 4.4 mm along the row direction X and
3.5 · 1.5 = 5.25 mm along the column direction Y; the others are 20 · 0.8 = 16 mm further along X, and 10 · 1.5 = 15 mm
further along Y. Plane 2 lies 6 mm, plane 3 lies 9 mm from plane 0 along the normal X × Y. The first instance stands at
(-31.5, -22.25, 105) in all of them.
"""

from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from node.domain.grid import Cosines, Grid, Vector
from node.domain.volume import LabelMap
from tests.builders import as_vector, ct_series, plane, uid

ORIGIN: Vector = (-31.5, -22.25, 105.0)
PLANES, ROWS, COLUMNS = 6, 24, 40
FEET = ((slice(3, 5), slice(5, 7)), (slice(3, 5), slice(25, 27)), (slice(13, 15), slice(5, 7)))


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """One way to lie, and where the structure must come to stand, LPS mm."""

    name: str
    patient_position: str
    orientation: Cosines
    # From one instance to the next, in the order of their Instance Numbers.
    step: Vector
    # Image Position (Patient) of the planes 2 and 3.
    positions: tuple[Vector, Vector]
    # The middles of the feet on plane 2.
    corner: Vector
    along_row: Vector
    along_column: Vector


GEOMETRIES = (
    # X = x, Y = y, normal z: plane 2 at 105 + 6. Corner: -31.5 + 4.4, -22.25 + 5.25; then x + 16; then y + 15.
    Geometry(
        name="axial HFS",
        patient_position="HFS",
        orientation=(1, 0, 0, 0, 1, 0),
        step=(0, 0, 3),
        positions=((-31.5, -22.25, 111), (-31.5, -22.25, 114)),
        corner=(-27.1, -17.0, 111),
        along_row=(-11.1, -17.0, 111),
        along_column=(-27.1, -2.0, 111),
    ),
    # As axial, but numbered from the head down: planes at 105, 102, … 90, so plane 2 from below at 90 + 6.
    Geometry(
        name="descending",
        patient_position="HFS",
        orientation=(1, 0, 0, 0, 1, 0),
        step=(0, 0, -3),
        positions=((-31.5, -22.25, 96), (-31.5, -22.25, 99)),
        corner=(-27.1, -17.0, 96),
        along_row=(-11.1, -17.0, 96),
        along_column=(-27.1, -2.0, 96),
    ),
    # X = -x, Y = -y, normal z. Corner: -31.5 - 4.4, -22.25 - 5.25; then x - 16; then y - 15.
    Geometry(
        name="HFP",
        patient_position="HFP",
        orientation=(-1, 0, 0, 0, -1, 0),
        step=(0, 0, 3),
        positions=((-31.5, -22.25, 111), (-31.5, -22.25, 114)),
        corner=(-35.9, -27.5, 111),
        along_row=(-51.9, -27.5, 111),
        along_column=(-35.9, -42.5, 111),
    ),
    # X = -x, Y = y, normal -z: plane 2 at 105 - 6.
    Geometry(
        name="FFS",
        patient_position="FFS",
        orientation=(-1, 0, 0, 0, 1, 0),
        step=(0, 0, -3),
        positions=((-31.5, -22.25, 99), (-31.5, -22.25, 96)),
        corner=(-35.9, -17.0, 99),
        along_row=(-51.9, -17.0, 99),
        along_column=(-35.9, -2.0, 99),
    ),
    # X = x, Y = -y, normal -z.
    Geometry(
        name="FFP",
        patient_position="FFP",
        orientation=(1, 0, 0, 0, -1, 0),
        step=(0, 0, -3),
        positions=((-31.5, -22.25, 99), (-31.5, -22.25, 96)),
        corner=(-27.1, -27.5, 99),
        along_row=(-11.1, -27.5, 99),
        along_column=(-27.1, -42.5, 99),
    ),
    # X = -y, Y = x, normal z. Corner: -31.5 + 5.25, -22.25 - 4.4; then y - 16; then x + 15.
    Geometry(
        name="HFDL",
        patient_position="HFDL",
        orientation=(0, -1, 0, 1, 0, 0),
        step=(0, 0, 3),
        positions=((-31.5, -22.25, 111), (-31.5, -22.25, 114)),
        corner=(-26.25, -26.65, 111),
        along_row=(-26.25, -42.65, 111),
        along_column=(-11.25, -26.65, 111),
    ),
    # X = y, Y = -x, normal z. Corner: -31.5 - 5.25, -22.25 + 4.4; then y + 16; then x - 15.
    Geometry(
        name="HFDR",
        patient_position="HFDR",
        orientation=(0, 1, 0, -1, 0, 0),
        step=(0, 0, 3),
        positions=((-31.5, -22.25, 111), (-31.5, -22.25, 114)),
        corner=(-36.75, -17.85, 111),
        along_row=(-36.75, -1.85, 111),
        along_column=(-51.75, -17.85, 111),
    ),
    # Head first, rows that run from back to front: X = x, Y = -y, normal -z; numbered from the feet up, so plane 0
    # is the last instance, at 105 + 15, and plane 2 at 120 - 6.
    Geometry(
        name="negative column cosine",
        patient_position="HFS",
        orientation=(1, 0, 0, 0, -1, 0),
        step=(0, 0, 3),
        positions=((-31.5, -22.25, 114), (-31.5, -22.25, 111)),
        corner=(-27.1, -27.5, 114),
        along_row=(-11.1, -27.5, 114),
        along_column=(-27.1, -42.5, 114),
    ),
    # X = y, Y = -z, normal -x: plane 2 at -31.5 - 6. Corner: -22.25 + 4.4, 105 - 5.25; then y + 16; then z - 15.
    Geometry(
        name="sagittal",
        patient_position="HFS",
        orientation=(0, 1, 0, 0, 0, -1),
        step=(-3, 0, 0),
        positions=((-37.5, -22.25, 105), (-40.5, -22.25, 105)),
        corner=(-37.5, -17.85, 99.75),
        along_row=(-37.5, -1.85, 99.75),
        along_column=(-37.5, -17.85, 84.75),
    ),
    # X = x, Y = -z, normal y: plane 2 at -22.25 + 6. Corner: -31.5 + 4.4, 105 - 5.25; then x + 16; then z - 15.
    Geometry(
        name="coronal",
        patient_position="HFS",
        orientation=(1, 0, 0, 0, 0, -1),
        step=(0, 3, 0),
        positions=((-31.5, -16.25, 105), (-31.5, -13.25, 105)),
        corner=(-27.1, -16.25, 99.75),
        along_row=(-11.1, -16.25, 99.75),
        along_column=(-27.1, -16.25, 84.75),
    ),
    # X = (0.8, 0.6, 0), Y = (-0.576, 0.768, 0.28), normal (0.168, -0.224, 0.96), each of length 1.
    # Plane 2: origin + 6 · normal (1.008, -1.344, 5.76); plane 3: origin + 9 · normal (1.512, -2.016, 8.64).
    # Corner: plane 2 + 4.4 · X (3.52, 2.64, 0) + 5.25 · Y (-3.024, 4.032, 1.47);
    # then + 16 · X (12.8, 9.6, 0); then corner + 15 · Y (-8.64, 11.52, 4.2).
    Geometry(
        name="oblique",
        patient_position="HFS",
        orientation=(0.8, 0.6, 0, -0.576, 0.768, 0.28),
        step=(0.504, -0.672, 2.88),
        positions=((-30.492, -23.594, 110.76), (-29.988, -24.266, 113.64)),
        corner=(-29.996, -16.922, 112.23),
        along_row=(-17.196, -7.322, 112.23),
        along_column=(-38.636, -5.402, 116.43),
    ),
    # X = x, Y = (0, 0.96, 0.28), normal (0, -0.28, 0.96), and the table moves 3.125 along z: 3.125 · 0.96 = 3 along the
    # normal, 3.125 · 0.28 = 0.875 along Y. Plane 2 at 105 + 6.25, plane 3 at 105 + 9.375.
    # Corner: -31.5 + 4.4, then + 5.25 · Y (0, 5.04, 1.47); then x + 16; then corner + 15 · Y (0, 14.4, 4.2).
    Geometry(
        name="gantry tilt",
        patient_position="HFS",
        orientation=(1, 0, 0, 0, 0.96, 0.28),
        step=(0, 0, 3.125),
        positions=((-31.5, -22.25, 111.25), (-31.5, -22.25, 114.375)),
        corner=(-27.1, -17.21, 112.72),
        along_row=(-11.1, -17.21, 112.72),
        along_column=(-27.1, -2.81, 116.92),
    ),
)


def series_of(geometry: Geometry, steps: tuple[float, ...] = (0, 1, 2, 3, 4, 5)) -> list[Dataset]:
    """Build the CT of a geometry, instance n so many steps from the first."""
    positions = np.array(ORIGIN) + np.outer(steps, geometry.step)
    planes = tuple(
        plane(
            position_lps_mm=as_vector(np.round(position, 6)),
            orientation=geometry.orientation,
            rows=ROWS,
            columns=COLUMNS,
            sop_instance_uid=uid(geometry.name, str(index)),
        )
        for index, position in enumerate(positions)
    )
    return ct_series(Grid(planes=planes), series=geometry.name, patient_position=geometry.patient_position)


def structure_on(stack: Grid) -> LabelMap:
    """Put the structure on its feet, label value 1."""
    labels = np.zeros(stack.shape, dtype=np.uint8)
    for foot in FEET:
        labels[2:4, *foot] = 1
    return LabelMap(labels=labels, grid=stack)
