"""Make the training set of models/head-neck-oar, train it, and measure what it does on the validation patients.

Usage::

    scripts/head-neck-oar dataset SOURCE DATASET    # SOURCE: the unpacked openkbp-hn-ct
    scripts/head-neck-oar train DATASET OUT         # hours; the same command goes on after an interruption
    scripts/head-neck-oar validate DATASET [--models FOLDER] [--json FILE]
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def main() -> int:
    """Do one step of the road."""
    parser = argparse.ArgumentParser(prog="scripts/head-neck-oar", description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    for name, told in (
        ("dataset", "make the training set of the unpacked openkbp-hn-ct"),
        ("train", "train on it, and make the package"),
        ("validate", "contour the validation patients through the node and by the training's code, and compare"),
    ):
        step = steps.add_parser(name, help=told)
        if name == "dataset":
            step.add_argument("source", type=Path)
        step.add_argument("dataset", type=Path)
        if name == "train":
            step.add_argument("out", type=Path)
        if name == "validate":
            step.add_argument("--models", type=Path, default=ROOT / "models", help="where head-neck-oar is")
            step.add_argument("--json", type=Path, dest="as_json", help="write the table here, too")
    given = parser.parse_args()
    if given.step == "dataset":
        from scripts.head_neck_oar.dataset import make_dataset  # noqa: PLC0415 - each step has its own dependencies

        make_dataset(given.source, given.dataset)
        return 0
    if given.step == "train":
        from scripts.head_neck_oar.training import train  # noqa: PLC0415

        return train(given.dataset, given.out)
    from scripts.head_neck_oar.validation import validate  # noqa: PLC0415

    return validate(given.dataset, given.models, given.as_json)


if __name__ == "__main__":
    sys.exit(main())
