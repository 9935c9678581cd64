"""Write networks of random weights as nnU-Net's results folder and as ONNX: python -m inferring.making OUT NAME ...

Runs where torch, nnunetv2 and onnx are (`tests.parity.environment`). Of each network, ``OUT/<name>/`` holds
``results/`` and ``fold_0.onnx``.
"""

import sys
from pathlib import Path

from inferring.cases import network
from tests.parity import reference, results_folder
from tests.parity.export import export_folds


def main(out: Path, names: list[str]) -> None:
    """Write what the command line names."""
    for name in names:
        folder, one = out / name, network(name)
        results = results_folder.write_case(one, folder / "results")
        export_folds(reference.predictor(one, results), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
