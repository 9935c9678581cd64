"""The phantom's soft tissue: a thorax and abdomen drawn analytically, slice by slice.

Nobody's anatomy: figures rounded from textbooks, so that shapes, neighbours and Hounsfield units are plausible. Frame:
mm, x to the patient's left, y to the back, z to the head, z = 0 at the domes of the diaphragm, y = 112 the skin of the
back.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from node.demo.canvas import Canvas, Ellipse, Field, Tube, Window
from node.demo.skeleton import cage, paint_skeleton, spine_y

BACK_Y_MM = 112.0
COUCH_TOP_Y_MM = 116.0

FAT_HU, MUSCLE_HU, SKIN_HU, LUNG_HU, BLOOD_HU, GAS_HU = -102.0, 54.0, 10.0, -835.0, 42.0, -985.0
COUCH_SHELL_HU, COUCH_FOAM_HU = -280.0, -945.0

# The trunk's skin: height, half width, half depth, thickness of the fat under it.
TRUNK_MM = (
    (-800.0, 150.0, 80.0, 14.0),
    (-400.0, 168.0, 98.0, 24.0),
    (-330.0, 176.0, 106.0, 26.0),
    (-230.0, 166.0, 106.0, 26.0),
    (-140.0, 154.0, 108.0, 22.0),
    (-40.0, 160.0, 113.0, 16.0),
    (60.0, 168.0, 115.0, 12.0),
    (130.0, 172.0, 110.0, 11.0),
    (175.0, 172.0, 98.0, 10.0),
    (205.0, 140.0, 84.0, 9.0),
    (225.0, 88.0, 74.0, 8.0),
    (245.0, 62.0, 66.0, 7.0),
    (420.0, 72.0, 88.0, 7.0),
)
_TRUNK = PchipInterpolator(np.array(TRUNK_MM)[:, 0], np.array(TRUNK_MM)[:, 1:])

# What lies between the lungs above the heart: height, half width, half depth.
UPPER_MEDIASTINUM_MM = (
    (40.0, 12.0, 30.0),
    (90.0, 34.0, 42.0),
    (125.0, 36.0, 46.0),
    (165.0, 30.0, 40.0),
    (205.0, 22.0, 26.0),
)
_UPPER_MEDIASTINUM = PchipInterpolator(np.array(UPPER_MEDIASTINUM_MM)[:, 0], np.array(UPPER_MEDIASTINUM_MM)[:, 1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Organ:
    """An ellipsoid: centre, half-axes, turn in the axial plane, Hounsfield units, and its gas, if it holds any.

    ``gas_above_y``: gas fills the part in front of this level, flat because the patient lies on the back.
    """

    name: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    hu: float
    turn_degrees: float = 0.0
    gas_above_y: float | None = None
    # Liver, spleen and stomach lie under the diaphragm and take its shape.
    under_diaphragm: bool = False

    def section(self, z: float) -> Ellipse | None:
        """Give the ellipse in which a plane cuts the organ, or None where it misses it."""
        rest = 1.0 - ((z - self.centre[2]) / self.radii[2]) ** 2
        if rest <= 0.001:
            return None
        scale = float(np.sqrt(rest))
        return Ellipse(
            x=self.centre[0],
            y=self.centre[1],
            rx=self.radii[0] * scale,
            ry=self.radii[1] * scale,
            turn_degrees=self.turn_degrees,
        )


HEART = (
    Organ(name="pericardial fat", centre=(24, -34, 58), radii=(64, 50, 56), hu=-95, turn_degrees=38),
    Organ(name="heart muscle", centre=(26, -34, 56), radii=(58, 45, 50), hu=50, turn_degrees=38),
    Organ(name="left ventricle", centre=(42, -28, 50), radii=(30, 19, 32), hu=38, turn_degrees=44),
    Organ(name="right ventricle", centre=(20, -54, 48), radii=(36, 14, 30), hu=38, turn_degrees=30),
    Organ(name="left atrium", centre=(6, -8, 78), radii=(32, 18, 20), hu=38, turn_degrees=0),
    Organ(name="right atrium", centre=(-20, -32, 66), radii=(17, 25, 28), hu=38, turn_degrees=10),
)

ABDOMEN = (
    Organ(name="right lobe", centre=(-62, -2, -42), radii=(80, 78, 84), hu=61, under_diaphragm=True),
    Organ(name="left lobe", centre=(18, -48, -26), radii=(70, 30, 34), hu=61, turn_degrees=-8, under_diaphragm=True),
    Organ(name="spleen", centre=(98, 36, -22), radii=(24, 46, 46), hu=51, turn_degrees=22, under_diaphragm=True),
    Organ(name="stomach", centre=(58, -26, -38), radii=(42, 42, 40), hu=30, gas_above_y=-42, under_diaphragm=True),
    Organ(name="gallbladder", centre=(-38, -52, -84), radii=(15, 18, 26), hu=12),
    Organ(name="pancreas", centre=(14, -8, -86), radii=(56, 13, 14), hu=40, turn_degrees=14),
    Organ(name="right adrenal", centre=(-28, 36, -52), radii=(3, 12, 14), hu=20, turn_degrees=-25),
    Organ(name="left adrenal", centre=(30, 34, -48), radii=(3, 12, 14), hu=20, turn_degrees=30),
    Organ(name="right kidney", centre=(-62, 44, -118), radii=(27, 30, 56), hu=33, turn_degrees=-24),
    Organ(name="right kidney's sinus", centre=(-52, 38, -118), radii=(13, 10, 26), hu=-80, turn_degrees=-24),
    Organ(name="left kidney", centre=(64, 44, -104), radii=(27, 30, 56), hu=33, turn_degrees=24),
    Organ(name="left kidney's sinus", centre=(54, 38, -104), radii=(13, 10, 26), hu=-80, turn_degrees=24),
    Organ(name="bladder", centre=(0, -34, -320), radii=(44, 34, 34), hu=6),
    Organ(name="prostate", centre=(0, -22, -366), radii=(22, 18, 18), hu=42),
    Organ(name="rectum", centre=(0, 50, -330), radii=(20, 18, 70), hu=32, gas_above_y=44),
)

AIRWAY = (
    Tube(start=(0, 0, 300), end=(2, 14, 118), start_radius=9.0, end_radius=9.0),
    Tube(start=(2, 14, 118), end=(-34, 18, 90), start_radius=8.0, end_radius=6.0),
    Tube(start=(2, 14, 118), end=(44, 20, 84), start_radius=7.5, end_radius=5.5),
    Tube(start=(-34, 18, 90), end=(-52, 26, 58), start_radius=5.0, end_radius=3.0),
    Tube(start=(44, 20, 84), end=(58, 30, 54), start_radius=5.0, end_radius=3.0),
)

# The aorta along the spine; the left lung lies against it.
CHEST_AORTA = (
    Tube(start=(26, 36, 134), end=(24, 36, 30), start_radius=12.5, end_radius=12.0),
    Tube(start=(24, 36, 30), end=(5, 32, -60), start_radius=12.0, end_radius=10.5),
)

VESSELS = (
    # Aorta: ascending, arch, descending.
    Tube(start=(-12, -24, 84), end=(-20, -32, 138), start_radius=16.0, end_radius=16.0),
    Tube(start=(-20, -32, 138), end=(-6, -14, 156), start_radius=15.0, end_radius=14.0),
    Tube(start=(-6, -14, 156), end=(18, 20, 154), start_radius=14.0, end_radius=13.0),
    Tube(start=(18, 20, 154), end=(26, 36, 134), start_radius=13.0, end_radius=12.5),
    *CHEST_AORTA,
    Tube(start=(5, 32, -60), end=(3, 26, -215), start_radius=10.5, end_radius=9.0),
    Tube(start=(3, 26, -215), end=(48, -2, -300), start_radius=7.0, end_radius=6.0),
    Tube(start=(3, 26, -215), end=(-44, -2, -300), start_radius=7.0, end_radius=6.0),
    # Pulmonary trunk and arteries.
    Tube(start=(18, -46, 84), end=(22, -26, 112), start_radius=14.0, end_radius=13.0),
    Tube(start=(22, -26, 112), end=(46, 8, 110), start_radius=11.0, end_radius=9.0),
    Tube(start=(22, -26, 112), end=(-42, 4, 100), start_radius=11.0, end_radius=9.0),
    # Caval veins.
    Tube(start=(-28, -22, 176), end=(-28, -20, 84), start_radius=9.0, end_radius=10.0),
    Tube(start=(-24, -10, 44), end=(-20, 24, -60), start_radius=12.0, end_radius=12.0),
    Tube(start=(-20, 24, -60), end=(-18, 26, -215), start_radius=12.0, end_radius=11.0),
    # Vessels of the neck and under the collarbones.
    Tube(start=(-6, -14, 160), end=(-26, 0, 300), start_radius=6.0, end_radius=4.5),
    Tube(start=(14, 8, 160), end=(26, 0, 300), start_radius=5.5, end_radius=4.5),
    Tube(start=(-28, -22, 176), end=(-96, -14, 184), start_radius=7.0, end_radius=5.5),
    Tube(start=(-28, -28, 172), end=(34, -32, 180), start_radius=7.0, end_radius=7.0),
    Tube(start=(34, -32, 180), end=(98, -14, 186), start_radius=6.5, end_radius=5.5),
)

OESOPHAGUS = (
    Tube(start=(2, 26, 300), end=(6, 36, 110), start_radius=7.0, end_radius=7.0),
    Tube(start=(6, 36, 110), end=(20, 10, 2), start_radius=7.0, end_radius=8.0),
)

# Centre, height, and half-axes of each dome of the diaphragm.
DOMES = ((-74.0, -4.0, 20.0, 78.0, 88.0), (74.0, 0.0, 8.0, 76.0, 88.0))
DOME_FALL_MM = 78.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What chance decides about a phantom: the branching of its lung vessels and its bowel."""

    lung_vessels: tuple[Tube, ...]
    bowel: tuple[Organ, ...]


def grow(seed: int) -> Anatomy:
    """Grow the parts that chance decides; the same seed grows the same patient."""
    random = np.random.default_rng(seed)
    vessels: list[Tube] = []
    for side in (-1.0, 1.0):
        for _ in range(20):
            heading = np.array([side * random.uniform(0.4, 1.0), random.uniform(-0.9, 1.0), random.uniform(-1.2, 1.0)])
            _branch(vessels, random, np.array([side * 40.0, 12.0, 92.0]), heading, 4.8)
    return Anatomy(lung_vessels=tuple(vessels), bowel=tuple(_loop(random) for _ in range(70)))


def _branch(
    vessels: list[Tube],
    random: np.random.Generator,
    start: NDArray[np.float64],
    heading: NDArray[np.float64],
    radius: float,
) -> None:
    if radius < 0.55:
        return
    heading = heading / np.linalg.norm(heading)
    end = start + heading * random.uniform(4.0, 7.5) * (1.5 + radius)
    thinner = radius * random.uniform(0.66, 0.8)
    vessels.append(
        Tube(
            start=(float(start[0]), float(start[1]), float(start[2])),
            end=(float(end[0]), float(end[1]), float(end[2])),
            start_radius=radius,
            end_radius=thinner,
        )
    )
    for _ in range(2):
        _branch(vessels, random, end, heading + random.normal(0.0, 0.5, 3), thinner * random.uniform(0.85, 1.0))


def _loop(random: np.random.Generator) -> Organ:
    centre = (random.uniform(-105, 105), random.uniform(-72, 8), random.uniform(-300, -92))
    radii = (random.uniform(13, 24), random.uniform(11, 19), random.uniform(12, 26))
    gas = centre[1] - radii[1] * random.uniform(-0.2, 0.5) if random.random() < 0.35 else None
    return Organ(
        name="bowel",
        centre=centre,
        radii=radii,
        hu=random.uniform(18, 40),
        turn_degrees=random.uniform(0, 90),
        gas_above_y=gas,
    )


def paint_couch(canvas: Canvas) -> None:
    """Paint a flat carbon-fibre couch top with its foam core under the patient."""
    shell = Ellipse(x=0.0, y=COUCH_TOP_Y_MM + 24.0, rx=262.0, ry=24.0, power=7.0)
    canvas.fill(shell, COUCH_SHELL_HU)
    canvas.fill(shell.grown(-2.5), COUCH_FOAM_HU)


def paint_patient(canvas: Canvas, anatomy: Anatomy) -> Field:
    """Paint everything inside the skin; gives the share of each pixel that the patient covers."""
    body, inner = _paint_trunk(canvas)
    wall = cage(canvas.z).grown(-6.0)
    window = canvas.around(wall)
    cavity = canvas.distance(wall, window)
    # Above the apices and below the ribs the cavity narrows to what the muscles leave.
    cavity = np.maximum(cavity, inner[window] + 4.0)
    diaphragm = _above_diaphragm(canvas, window)
    _paint_abdomen(canvas, anatomy, window, np.maximum(cavity, diaphragm + 3.5))
    _paint_thorax(canvas, anatomy, window, np.maximum(cavity, -diaphragm))
    paint_skeleton(canvas)
    return body


def _paint_trunk(canvas: Canvas) -> tuple[Field, Field]:
    """Paint skin, fat and muscle; gives the share covered and the distance to the muscles' outside."""
    width, depth, fat = (float(value) for value in _TRUNK(canvas.z))
    skin = Ellipse(x=0.0, y=BACK_Y_MM - depth, rx=width, ry=depth, power=2.35)
    everywhere = canvas.everywhere
    distance = canvas.distance(skin, everywhere)
    for side in (-1.0, 1.0):
        if canvas.z > 118.0:
            distance = np.minimum(distance, _shoulder(canvas, side))
    covered = canvas.coverage(distance)
    canvas.paint(everywhere, covered, SKIN_HU)
    canvas.paint(everywhere, canvas.coverage(distance + 1.8), FAT_HU)
    # Fat is thicker in front of the belly and thinner at the back.
    inner = distance + np.float32(fat) * (np.float32(1.0) - np.float32(0.3) * (canvas.y - skin.y) / np.float32(depth))
    canvas.paint(everywhere, canvas.coverage(inner), MUSCLE_HU)
    _paint_fat_between_muscles(canvas, inner)
    return covered, inner


def _paint_fat_between_muscles(canvas: Canvas, inner: Field) -> None:
    """Paint the seams around the chest's wall, the armpits, and the seams of the back's muscles."""
    wall = cage(canvas.z)
    window = canvas.around(wall.grown(20.0))
    seam = np.abs(canvas.distance(wall, window) - np.float32(9.0)) - np.float32(1.1)
    # Seen where pectoral and broad back muscles lie on the ribs, not at breastbone, spine and sides.
    turn = np.arctan2((canvas.y[window[0]] - wall.y) / wall.ry, canvas.x[:, window[1]] / wall.rx)
    share = np.clip(np.float32(1.3) * np.sin(2 * turn) ** 2, 0, 0.85).astype(np.float32)
    canvas.paint(window, share * canvas.coverage(np.maximum(seam, inner[window] + 4.0)), FAT_HU)
    spine = spine_y(canvas.z)
    for side in (-1.0, 1.0):
        armpit = Organ(name="armpit", centre=(side * 122, 14, 142), radii=(17, 26, 50), hu=FAT_HU)
        section = armpit.section(canvas.z)
        if section is not None:
            canvas.fill(section, FAT_HU)
        canvas.fill(Ellipse(x=side * 46.0, y=spine + 32.0, rx=1.6, ry=13.0, turn_degrees=side * 18.0), -70.0)
        canvas.fill(Ellipse(x=side * 16.0, y=spine + 44.0, rx=12.0, ry=1.2, turn_degrees=side * 35.0), -50.0)


def _shoulder(canvas: Canvas, side: float) -> Field:
    """Give the distance to the shoulder and the raised arm of one side."""
    shoulder = Tube(start=(side * 138, 4, 172), end=(side * 148, -2, 190), start_radius=50.0, end_radius=50.0)
    arm = Tube(start=(side * 148, -2, 190), end=(side * 178, -20, 420), start_radius=48.0, end_radius=42.0)
    return np.minimum(canvas.tube_distance(shoulder, canvas.everywhere), canvas.tube_distance(arm, canvas.everywhere))


def _above_diaphragm(canvas: Canvas, window: Window) -> Field:
    """Give the signed distance to the diaphragm, positive in the chest."""
    x, y = canvas.x[:, window[1]], canvas.y[window[0]]
    height = np.full((y.size, x.size), -400.0, dtype=np.float32)
    for centre_x, centre_y, top, rx, ry in DOMES:
        fall = ((x - np.float32(centre_x)) / np.float32(rx)) ** 2 + ((y - np.float32(centre_y)) / np.float32(ry)) ** 2
        np.maximum(height, np.float32(top) - np.float32(DOME_FALL_MM) * fall**1.3, out=height)
    # Between the domes the heart rests on the central tendon.
    np.maximum(height, 4.0 - (np.hypot(x / 60.0, (y + 20.0) / 60.0) ** 4) * 30.0, out=height)
    slope_y, slope_x = np.gradient(height, y[:, 0], x[0])
    return np.asarray((canvas.z - height) / np.sqrt(1 + slope_x**2 + slope_y**2), dtype=np.float32)


def _paint_abdomen(canvas: Canvas, anatomy: Anatomy, window: Window, cavity: Field) -> None:
    inside = canvas.coverage(cavity)
    if not inside.any():
        return
    canvas.paint(window, inside, FAT_HU)
    spine = spine_y(canvas.z)
    if canvas.z < -70.0:
        for side in (-1.0, 1.0):
            psoas = min(1.0, (-70.0 - canvas.z) / 90.0)
            canvas.fill(Ellipse(x=side * 38.0, y=spine, rx=9 + 11 * psoas, ry=10 + 12 * psoas), MUSCLE_HU)
    for organ in (*anatomy.bowel, *ABDOMEN):
        _paint_organ(canvas, organ, window, cavity)
    for tube in VESSELS:
        canvas.fill_tube(tube, BLOOD_HU)


def _paint_organ(canvas: Canvas, organ: Organ, window: Window, cavity: Field) -> None:
    section = organ.section(canvas.z)
    if section is None:
        return
    distance = np.maximum(canvas.distance(section, window), cavity + (0.6 if organ.under_diaphragm else 2.0))
    canvas.paint(window, canvas.coverage(distance), organ.hu)
    if organ.gas_above_y is not None:
        level = canvas.y[window[0]] - np.float32(organ.gas_above_y)
        canvas.paint(window, canvas.coverage(np.maximum(distance + 3.0, level)), GAS_HU)


def _paint_thorax(canvas: Canvas, anatomy: Anatomy, window: Window, cavity: Field) -> None:
    if canvas.coverage(cavity).any():
        middle = _mediastinum(canvas, window)
        canvas.paint(window, canvas.coverage(cavity), -85.0)
        lung = np.maximum(cavity + 0.5, -middle)
        _paint_lungs(canvas, anatomy, window, lung)
        for part in HEART:
            section = part.section(canvas.z)
            if section is not None:
                heart = np.maximum(canvas.distance(section, window), cavity)
                canvas.paint(window, canvas.coverage(heart), part.hu)
    if canvas.z > 0.0:
        for tube in VESSELS:
            canvas.fill_tube(tube, BLOOD_HU)
    for tube in OESOPHAGUS:
        canvas.fill_tube(tube, 34.0)
    for tube in AIRWAY:
        canvas.fill_tube(_wider(tube, 1.5), 20.0)
    for tube in AIRWAY:
        canvas.fill_tube(tube, GAS_HU)


def _wider(tube: Tube, wall_mm: float) -> Tube:
    return Tube(
        start=tube.start, end=tube.end, start_radius=tube.start_radius + wall_mm, end_radius=tube.end_radius + wall_mm
    )


def _mediastinum(canvas: Canvas, window: Window) -> Field:
    """Give the distance to what lies between the lungs, heart and spine included."""
    spine = spine_y(canvas.z)
    parts = [
        Ellipse(x=0.0, y=spine + 8.0, rx=25.0, ry=30.0),
        Ellipse(x=4.0, y=-50.0, rx=9.0, ry=46.0),
    ]
    if canvas.z > UPPER_MEDIASTINUM_MM[0][0]:
        width, depth = _UPPER_MEDIASTINUM(min(canvas.z, UPPER_MEDIASTINUM_MM[-1][0]))
        parts.append(Ellipse(x=0.0, y=-4.0, rx=float(width), ry=float(depth), power=2.4))
    heart = HEART[0].section(canvas.z)
    if heart is not None:
        parts.append(heart)
    distance = canvas.distance(parts[0], window)
    for part in parts[1:]:
        distance = np.minimum(distance, canvas.distance(part, window))
    for tube in CHEST_AORTA:
        distance = np.minimum(distance, canvas.tube_distance(_wider(tube, 2.5), window))
    return distance


def _paint_lungs(canvas: Canvas, anatomy: Anatomy, window: Window, lung: Field) -> None:
    inside = canvas.coverage(lung)
    # Denser towards the back, where the blood is.
    canvas.paint(window, inside, LUNG_HU)
    canvas.hu[window] += inside * (canvas.y[window[0]] * np.float32(0.45))
    share = np.zeros_like(canvas.hu)
    share[window] = canvas.coverage(lung + 1.0)
    for tube in anatomy.lung_vessels:
        if tube.reaches(canvas.z):
            around = canvas.around_tube(tube)
            canvas.paint(around, canvas.coverage(canvas.tube_distance(tube, around)) * share[around], 25.0)
