"""Write networks of random weights as nnU-Net's results folder and as ONNX: python -m inferring.making OUT NAME ...

Runs where torch, nnunetv2 and onnx are (`tests.parity.environment`). Of each network, ``OUT/<name>/`` holds
``results/`` and ``fold_0.onnx``.
"""

import sys
from pathlib import Path

from inferring.cases import network
from node.convert.export import write
from tests.parity import reference, results_folder


def main(out: Path, names: list[str]) -> None:
    """Write what the command line names."""
    for name in names:
        folder, one = out / name, network(name)
        results = results_folder.write_case(one, folder / "results")
        predictor = reference.predictor(one, results)
        predictor.network.load_state_dict(predictor.list_of_parameters[0])
        write(predictor.network.eval(), (1, *one.patch_size), folder / "fold_0.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
