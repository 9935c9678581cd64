"""Networks and scans that the benches of inference measure with. Facts only: neither torch nor ONNX Runtime."""

from dataclasses import dataclass
from pathlib import Path

from tests.parity.cases import Case, numbered_labels

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]

PATCH, SPACING_MM = 128, 1.5

# Features of the stages. What lies beside a network does not depend on them, so a small one is as good there; "full" is
# what nnU-Net plans for 3-D networks. "tiny" is there to try a bench. Labels of all but "noisy" form regions.
FEATURES = {
    "small": (4, 8, 16, 32),
    "noisy": (4, 8, 16, 32),
    "full": (32, 64, 128, 256, 320, 320),
    "tiny": (4, 8),
}


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The size of a CT: slices, rows and columns."""

    shape: Shape
    spacing_mm: Spacing = (1.5, 0.8, 0.8)

    @property
    def name(self) -> str:
        """Say it as people do: columns, rows, slices."""
        return "×".join(str(size) for size in reversed(self.shape))

    @property
    def voxels(self) -> int:
        """Count the voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def model_voxels(self) -> float:
        """Count the voxels at the network's spacing, about."""
        factor = 1.0
        for spacing in self.spacing_mm:
            factor *= spacing / SPACING_MM
        return factor * self.voxels


def network(name: str) -> Case:
    """Give a network by its name, "small-25": its features, and how many classes it has, the background among them."""
    size, _, classes = name.partition("-")
    features = FEATURES[size]
    patch = 32 if size == "tiny" else PATCH
    return Case(
        name=name.replace("-", "_"),
        shows="time and memory",
        features=features,
        coherent=size != "noisy",
        strides=((1, 1, 1), *((2, 2, 2),) * (len(features) - 1)),
        patch_size=(patch, patch, patch),
        plan_spacing_mm=(SPACING_MM, SPACING_MM, SPACING_MM),
        labels=numbered_labels(int(classes) - 1),
    )


def results_of(folder: Path) -> Path:
    """Give the folder that holds plans.json, below that of a network that `inferring.making` wrote."""
    (plans,) = folder.glob("results/*/*/plans.json")
    return plans.parent


def nnunet_bytes(scan: Scan, classes: int, bytes_of_sum: int = 2) -> float:
    """Tell about how much memory nnU-Net takes beside torch and the network.

    It resamples scores from float64, and holds them for all classes and the whole scan before and after, with as many
    bytes as its sums have.
    """
    return classes * (scan.model_voxels * (8 + bytes_of_sum) + scan.voxels * bytes_of_sum)


def monai_bytes(scan: Scan, classes: int) -> float:
    """Tell about how much memory MONAI takes beside torch and the network: scores of all classes, twice in float32."""
    return 4 * classes * (2 * scan.model_voxels + scan.voxels)
