"""Small cases drawn for the tests of training: two balls of tissue, left and right of a cord."""

from pathlib import Path

import numpy as np

from node.dataset.nifti import Image, write_nifti
from node.dataset.raw import Case, Split, TrainingSet, write_training_set
from node.training.plan import Intensities, Plan
from node.training.prepared import Prepared
from node.training.recipe import Augmentation, Recipe

ORGANS = ("SpinalCord", "Parotid_L", "Parotid_R")
STILL = Augmentation(
    rotation_degrees=0,
    tilt_degrees=0,
    scaling=0,
    stretching=0,
    translation=0,
    mirrored=0,
    noise=0,
    shift=0,
    contrast=0,
    blurred=0,
    with_supports=0,
)
TINY = Recipe(
    spacing_mm=(4.0, 3.0, 3.0),
    patch=(16, 16, 16),
    features=(4, 8),
    encoder_convolutions=(1, 1),
    decoder_convolutions=(1,),
    learning_rate=1e-2,
    warm_up_steps=2,
    average=0.5,
    check_every=4,
)


def plan(recipe: Recipe, mean: float = 0.0, std: float = 1.0) -> Plan:
    """Give a plan whose normalisation changes nothing between -1000 and 1000."""
    return Plan(
        name="Dataset001_drawn",
        channels=("CT",),
        organs=ORGANS,
        spacing_mm=recipe.spacing_mm or (4.0, 3.0, 3.0),
        intensities=(Intensities(percentile_00_5=-1000, percentile_99_5=1000, mean=mean, std=std),),
        recipe=recipe,
    )


def prepared(
    labels: np.ndarray, image: np.ndarray, spacing_mm: tuple[float, float, float], contoured: tuple[str, ...] = ORGANS
) -> Prepared:
    """Give a case of given arrays."""
    case = Case(name="drawn_001", patient="p1", split="train", contoured=contoured)
    return Prepared(
        case=case,
        image=image[np.newaxis],
        labels=labels.astype(np.uint8),
        spacing_mm=spacing_mm,
        source_spacing_mm=spacing_mm,
    )


def drawn(seed: int, shape: tuple[int, int, int] = (20, 30, 36)) -> tuple[np.ndarray, np.ndarray]:
    """Draw a case: image in HU and labels; the left of the patient is at high columns."""
    rng = np.random.default_rng(seed)
    z, y, x = (np.arange(side).reshape([-1 if axis == k else 1 for k in range(3)]) for axis, side in enumerate(shape))
    middle = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[np.broadcast_to((y - middle[1]) ** 2 + (x - middle[2]) ** 2 < 5, shape)] = 1
    for value, side in ((2, 9), (3, -9)):
        labels[(z - middle[0]) ** 2 + (y - middle[1] + 3) ** 2 + (x - middle[2] - side) ** 2 < 18] = value
    image = np.where((y - middle[1]) ** 2 + (x - middle[2]) ** 2 < 190, -80.0, -1000.0) + np.zeros(shape)
    for value, hu in ((1, 200.0), (2, 60.0), (3, 60.0)):
        image[labels == value] = hu
    return (image + rng.normal(0, 5, shape)).round().astype(np.int16), labels


def write_drawn(folder: Path, cases: int = 4) -> TrainingSet:
    """Write a training set of drawn cases, the last of them for validation; the second lacks its left parotid."""
    made = []
    for number in range(cases):
        split: Split = "validation" if number == cases - 1 else "train"
        contoured = tuple(each for each in ORGANS if number != 1 or each != "Parotid_L")
        made.append(Case(name=f"drawn_{number:03d}", patient=f"p{number}", split=split, contoured=contoured))
    training_set = TrainingSet(folder=folder, name="drawn", channels=("CT",), organs=ORGANS, cases=tuple(made))
    write_training_set(training_set)
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    for number, case in enumerate(made):
        image, labels = drawn(number)
        for value, organ in enumerate(ORGANS, start=1):
            if organ not in case.contoured:
                labels[labels == value] = 0
        write_nifti(training_set.images(case)[0], Image(voxels=image, affine_lps_mm=affine))
        write_nifti(training_set.labels(case), Image(voxels=labels, affine_lps_mm=affine))
    return training_set
