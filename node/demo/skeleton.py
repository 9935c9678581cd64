"""The phantom's bones: heights in mm from the diaphragm, as tables and a few curves.

Frame: x to the patient's left, y to the back, z to the head; y = 112 is the skin of the back.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from node.demo.canvas import Canvas, Ellipse, Field, Tube

# Upper edge of the first thoracic vertebra.
SPINE_TOP_MM = 210.0
# Heights of the levels downwards from there: twelve thoracic, five lumbar.
LEVELS_MM = (20, 21, 21, 22, 22, 23, 24, 24, 25, 26, 28, 30, 32, 33, 34, 34, 33)
CERVICAL_LEVEL_MM = 17.0

# The middle of the ribs' wall: height, half width, half depth.
CAGE_MM = (
    (-420.0, 135.0, 80.0),
    (-140.0, 132.0, 84.0),
    (-60.0, 138.0, 90.0),
    (20.0, 140.0, 92.0),
    (80.0, 134.0, 87.0),
    (130.0, 116.0, 77.0),
    (170.0, 90.0, 63.0),
    (192.0, 64.0, 49.0),
    (208.0, 30.0, 26.0),
    (214.0, 7.0, 7.0),
    (430.0, 7.0, 7.0),
)

_CAGE = PchipInterpolator(np.array(CAGE_MM)[:, 0], np.array(CAGE_MM)[:, 1:])

# Per rib: how far its front end lies below its root, where bone ends and where cartilage ends (0 back, 1 front).
RIBS = (
    (28.0, 0.80, 0.93),
    (42.0, 0.80, 0.93),
    (58.0, 0.80, 0.94),
    (66.0, 0.79, 0.94),
    (70.0, 0.78, 0.94),
    (72.0, 0.77, 0.94),
    (74.0, 0.76, 0.93),
    (76.0, 0.72, 0.86),
    (76.0, 0.68, 0.80),
    (72.0, 0.62, 0.72),
    (55.0, 0.48, 0.50),
    (38.0, 0.34, 0.36),
)
RIB_BEGINS = 0.13
RIB_HALF_HEIGHT_MM = 6.5
RIB_HALF_THICKNESS_MM = 3.8

FAR_MM = 99.0

RIB_HU = (820.0, 280.0)
VERTEBRA_HU = (560.0, 190.0)
ARCH_HU = (720.0, 330.0)
LONG_BONE_HU = (1150.0, 120.0)
FLAT_BONE_HU = (780.0, 360.0)
DISC_HU = 85.0
CARTILAGE_HU = 95.0
CANAL_HU = 12.0
CORD_HU = 38.0


def cage(z: float) -> Ellipse:
    """Give the ribs' wall at a height, as an ellipse."""
    width, depth = _CAGE(z)
    # The back of the cage stays near the skin of the back while the front rises and falls with the depth.
    return Ellipse(x=0.0, y=86.0 - float(depth), rx=float(width), ry=float(depth), power=2.2)


def spine_y(z: float) -> float:
    """Give how far back the middle of the vertebral bodies lies: chest hollow backwards, loins forwards."""
    return 58.0 + 6.0 * float(np.sin((z - 20.0) / 85.0)) - max(0.0, z - 190.0) * 0.35


def vertebra_at(z: float) -> tuple[float, float, float]:
    """Give (upper edge, height, size) of the vertebra at a height; size 0 in the neck to 1 at the sacrum."""
    if z > SPINE_TOP_MM:
        above = np.ceil((z - SPINE_TOP_MM) / CERVICAL_LEVEL_MM)
        return SPINE_TOP_MM + float(above) * CERVICAL_LEVEL_MM, CERVICAL_LEVEL_MM, 0.0
    edge = SPINE_TOP_MM
    for number, height in enumerate(LEVELS_MM, start=1):
        if z > edge - height:
            return edge, float(height), number / len(LEVELS_MM)
        edge -= height
    return edge, 120.0, 1.0


def rib_root_mm(rib: int) -> float:
    """Give the height at which a rib leaves the spine; 0 is the first rib."""
    return SPINE_TOP_MM - float(sum(LEVELS_MM[:rib])) - 2.0


def paint_skeleton(canvas: Canvas) -> None:
    """Paint all bones that cross the slice, over the soft tissue."""
    _paint_ribs(canvas)
    _paint_sternum(canvas)
    _paint_shoulders(canvas)
    _paint_pelvis(canvas)
    _paint_spine(canvas)


def _paint_spine(canvas: Canvas) -> None:
    z = canvas.z
    edge, height, size = vertebra_at(z)
    below = (edge - z) / height  # 0 at the upper edge, 1 at the lower
    disc = 0.14 + 0.08 * size
    y = spine_y(z)
    if z < SPINE_TOP_MM - sum(LEVELS_MM):
        _paint_sacrum(canvas, y)
        return
    half_width, half_depth = 12.0 + 11.0 * size, 11.0 + 5.5 * size
    # Waisted between its end plates.
    waist = 1.0 - 0.10 * np.sin(np.pi * np.clip((below - disc) / (1 - disc), 0, 1))
    body = Ellipse(x=0.0, y=y, rx=half_width * waist, ry=half_depth * waist, power=2.3)
    if below < disc:
        canvas.fill(Ellipse(x=0.0, y=y, rx=half_width, ry=half_depth, power=2.3), DISC_HU)
    else:
        near_plate = min(below - disc, 1 - below) * height < 1.6
        canvas.fill_bone(body, (VERTEBRA_HU[0], 480.0 if near_plate else VERTEBRA_HU[1]))
    _paint_arch(canvas, y + half_depth + 8.0, below, size)


def _paint_arch(canvas: Canvas, y: float, below: float, size: float) -> None:
    canal = Ellipse(x=0.0, y=y, rx=9.0 + 2.5 * size, ry=8.0)
    lamina = 4.5 if 0.25 < below < 0.85 else 1.8
    window = canvas.around(canal.grown(lamina))
    ring = np.maximum(
        canvas.distance(canal.grown(lamina), window), -np.asarray(canvas.distance(canal, window), dtype=np.float32)
    )
    canvas.paint_bone(window, ring, ARCH_HU, 1.3)
    if 0.2 < below < 0.6:
        reach = 26.0 + 14.0 * (1 - abs(below - 0.4) / 0.2)
        for side in (-1, 1):
            foot, tip = side * (canal.rx + 3.0), side * reach
            canvas.fill_bone_tube(_level_rod((foot, y - 2.0), (tip, y + 7.0), canvas.z, 4.6), ARCH_HU)
    if below > 0.35:
        back = y + canal.ry + lamina
        length = max(2.0, min(8.0 + 16.0 * min(1.0, (below - 0.35) / 0.35), 96.0 - back))
        canvas.fill_bone_tube(_level_rod((0.0, back), (0.0, back + length), canvas.z, 3.2), ARCH_HU)
    canvas.fill(canal, CANAL_HU)
    canvas.fill(canal.grown(-2.8), CORD_HU)


def _level_rod(start: tuple[float, float], end: tuple[float, float], z: float, radius: float) -> Tube:
    return Tube(start=(*start, z), end=(*end, z), start_radius=radius, end_radius=radius * 0.8)


def _paint_sacrum(canvas: Canvas, y: float) -> None:
    fallen = (SPINE_TOP_MM - sum(LEVELS_MM) - canvas.z) / 115.0
    if fallen > 1:
        return
    wings = Ellipse(x=0.0, y=y + 14.0 + 12.0 * fallen, rx=52.0 - 36.0 * fallen, ry=17.0 - 8.0 * fallen, power=2.4)
    canvas.fill_bone(wings, FLAT_BONE_HU, 1.8)
    canvas.fill(Ellipse(x=0.0, y=wings.y + 4.0, rx=7.0 - 4.0 * fallen, ry=4.0), CANAL_HU)


def _paint_ribs(canvas: Canvas) -> None:
    wall = cage(canvas.z)
    window = canvas.around(wall.grown(2 * RIB_HALF_THICKNESS_MM))
    out = canvas.distance(wall, window)
    near = np.abs(out) < RIB_HALF_THICKNESS_MM + 3.0
    x, y = np.broadcast_arrays(canvas.x[:, window[1]], canvas.y[window[0]] - np.float32(wall.y))
    # 0 at the back, 1 at the front, on both sides.
    turn = (np.arctan2(np.abs(x[near]) / wall.rx, y[near] / wall.ry) / np.pi).astype(np.float32)
    bone, cartilage = _rib_distances(out[near], turn, canvas.z)
    field = np.full_like(out, FAR_MM)
    field[near] = cartilage
    canvas.paint(window, canvas.coverage(field), CARTILAGE_HU)
    field[near] = bone
    canvas.paint_bone(window, field, RIB_HU, 1.3)


def _rib_distances(out: Field, turn: Field, z: float) -> tuple[Field, Field]:
    """Give the distances to the nearest rib's bone and to its cartilage, for points near the ribs' wall."""
    bone, cartilage = np.full_like(out, FAR_MM), np.full_like(out, FAR_MM)
    for number, (drop, bone_ends, ends) in enumerate(RIBS):
        height = rib_root_mm(number) - drop * 0.5 * (1 - np.cos(np.pi * np.minimum(turn, bone_ends)))
        # Cartilage climbs back to the breastbone.
        height += 1.6 * drop * np.maximum(turn - bone_ends, 0) * (number > 0)
        level = np.hypot(out / RIB_HALF_THICKNESS_MM, (z - height) / RIB_HALF_HEIGHT_MM)
        distance = ((level - 1) * RIB_HALF_THICKNESS_MM).astype(np.float32)
        bone = np.where((turn > RIB_BEGINS) & (turn <= bone_ends), np.minimum(bone, distance), bone)
        cartilage = np.where((turn > bone_ends) & (turn < ends), np.minimum(cartilage, distance), cartilage)
    return bone, cartilage


def _paint_sternum(canvas: Canvas) -> None:
    top, bottom = 176.0, 12.0
    if not bottom < canvas.z < top:
        return
    front = cage(canvas.z)
    half_width = 24.0 if canvas.z > 140 else 16.0 + 3.0 * np.sin(canvas.z / 11.0)
    half_width = min(half_width, 4.0 + (canvas.z - bottom) * 0.7)
    plate = Ellipse(x=0.0, y=front.y - front.ry - 1.0, rx=half_width, ry=6.0, power=2.4)
    canvas.fill_bone(plate, (520.0, 180.0), 1.2)


def _paint_shoulders(canvas: Canvas) -> None:
    z = canvas.z
    for side in (-1.0, 1.0):
        canvas.fill_bone_tube(_rod(side, (21, -58, 172), (80, -40, 192), 6.5), LONG_BONE_HU)
        canvas.fill_bone_tube(_rod(side, (80, -40, 192), (136, 14, 206), 6.0), LONG_BONE_HU)
        canvas.fill_bone_tube(_rod(side, (100, 62, 148), (136, 24, 200), 5.0), FLAT_BONE_HU)
        if 52.0 < z < 172.0:
            _paint_scapula(canvas, side)
        # Arms raised for planning: the shaft runs headwards.
        canvas.fill_bone_tube(_rod(side, (146, -4, 186), (147, -5, 188), 22.0), (760.0, 230.0))
        canvas.fill_bone_tube(_rod(side, (150, -6, 200), (176, -20, 420), 11.0), LONG_BONE_HU, 4.0)


def _paint_scapula(canvas: Canvas, side: float) -> None:
    height = (canvas.z - 52.0) / 120.0
    wall = cage(canvas.z)
    length = 8.0 + 34.0 * np.sin(np.pi * min(1.0, 0.12 + 0.8 * height))
    x = min(108.0, wall.rx * 0.84 + 10.0)
    blade = Ellipse(x=side * x, y=70.0, rx=length, ry=3.2, turn_degrees=-side * (34.0 + 10.0 * height))
    canvas.fill_bone(blade, FLAT_BONE_HU, 1.2)


def _paint_pelvis(canvas: Canvas) -> None:
    z = canvas.z
    for side in (-1.0, 1.0):
        if -300.0 < z < -206.0:
            down = (-206.0 - z) / 94.0
            wing = Ellipse(
                x=side * (104.0 - 12.0 * down),
                y=28.0 - 16.0 * down,
                rx=5.0 + 3.0 * down,
                ry=14.0 + 42.0 * np.sin(np.pi * min(0.5 + 0.4 * down, 0.08 + 1.6 * down)),
                turn_degrees=side * (26.0 - 8.0 * down),
            )
            canvas.fill_bone(wing, FLAT_BONE_HU, 1.8)
        canvas.fill_bone_tube(_rod(side, (88, 4, -312), (88, 0, -322), 31.0), FLAT_BONE_HU, 3.0)
        canvas.fill_bone_tube(_rod(side, (90, 2, -322), (92, 2, -324), 23.0), (760.0, 300.0), 1.8)
        canvas.fill_bone_tube(_rod(side, (92, 2, -324), (136, 10, -362), 15.0), (760.0, 260.0), 2.0)
        canvas.fill_bone_tube(_rod(side, (136, 10, -362), (110, 6, -800), 14.0), LONG_BONE_HU, 5.0)
        canvas.fill_bone_tube(_rod(side, (62, -28, -330), (8, -44, -352), 8.0), FLAT_BONE_HU)
        canvas.fill_bone_tube(_rod(side, (48, 34, -396), (70, 20, -336), 11.0), FLAT_BONE_HU)


def _rod(side: float, start: tuple[float, float, float], end: tuple[float, float, float], radius: float) -> Tube:
    return Tube(
        start=(side * start[0], start[1], start[2]),
        end=(side * end[0], end[1], end[2]),
        start_radius=radius,
        end_radius=radius,
    )
