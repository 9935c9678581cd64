"""What the bench of a GPU runs: two models as clinics have them, and one to try the bench without a GPU."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from inferring.cases import FEATURES, Scan
from inferring.plain_unet import plain_unet
from node.inference.network_tables import Channel, Output, ResamplingKind, Window, WindowedInput

# "float32" without TF32; "tf32" is what CUDA makes of float32 unless told otherwise.
Precision = Literal["float32", "tf32", "float16"]

_CT = Channel(name="CT", normalisation="fixed", clip=(-1000.0, 1000.0), mean=0.0, standard_deviation=400.0)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network, the spacing that it works at, and the scan that it is measured with."""

    title: str
    features: tuple[int, ...]
    patch: int
    classes: int
    spacing_mm: float
    resample: ResamplingKind
    # Of the spline that brings the image to the network's spacing.
    order: int
    scan: Scan
    # What a whole run may take on a GPU, warm; None: nothing is promised.
    bound_s: float | None = None

    @property
    def input(self) -> WindowedInput:
        """Say what its manifest would say of its input."""
        return WindowedInput(
            orientation="native",
            spacing_mm=(self.spacing_mm,) * 3,
            resample=self.resample,
            order=self.order,
            channels=(_CT,),
            window=Window(patch=(self.patch,) * 3),
        )

    @property
    def output(self) -> Output:
        """Say what its manifest would say of its output."""
        return Output(classes=self.classes)


_USUAL_SCAN = Scan(shape=(300, 512, 512), spacing_mm=(1.5, 0.78, 0.78))

MODELS = {
    "whole-body": Model(
        title="whole body, 3 mm, 118 classes",
        features=FEATURES["full"],
        patch=128,
        classes=118,
        spacing_mm=3.0,
        resample="totalsegmentator",
        order=1,
        scan=_USUAL_SCAN,
        bound_s=1.0,
    ),
    "organs": Model(
        title="organs, 1.5 mm, 25 classes",
        features=FEATURES["full"],
        patch=128,
        classes=25,
        spacing_mm=1.5,
        resample="nnunet",
        order=3,
        scan=_USUAL_SCAN,
    ),
    "tiny": Model(
        title="tiny, 3 mm, 5 classes",
        features=FEATURES["tiny"],
        patch=32,
        classes=5,
        spacing_mm=3.0,
        resample="totalsegmentator",
        order=1,
        scan=Scan(shape=(60, 128, 120), spacing_mm=(1.5, 0.78, 0.78)),
    ),
}


def write_network(model: Model, precision: Precision, folder: Path) -> Path:
    """Write a model's network in a precision, where it is not yet, and give its file."""
    stored = "float16" if precision == "float16" else "float32"
    file = folder / f"{model.title}, {stored}.onnx"
    if not file.exists():
        onnx.save(plain_unet(model.features, model.classes, (model.patch,) * 3, stored), file)
    return file
