"""Turn the networks of cases into ONNX, and measure that they still say the same: what an import does, alone.

Runs where torch, nnunetv2 and onnx are installed; prints the parity of each fold as JSON::

    python -m tests.parity.export OUT --cases ct_two_folds
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from node.convert.export import NetworkParity, export
from tests.parity import reference, results_folder
from tests.parity.cases import case


def main() -> None:
    """Export the cases named on the command line and print what was measured."""
    parser = argparse.ArgumentParser(description="Export networks of random weights to ONNX.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", required=True)
    arguments = parser.parse_args()
    measured = {}
    for name in arguments.cases.split(","):
        folder = results_folder.write_case(case(name), arguments.out / "results")
        (arguments.out / name).mkdir(parents=True, exist_ok=True)
        folds = export_folds(reference.predictor(case(name), folder), arguments.out / name)
        measured[name] = [asdict(fold) for fold in folds]
    print(json.dumps(measured))


def export_folds(predictor: Any, folder: Path) -> list[NetworkParity]:
    """Write ``fold_<n>.onnx`` for each fold that an `nnUNetPredictor` has loaded."""
    channels = len(predictor.dataset_json["channel_names"])
    measured = []
    for fold, weights in enumerate(predictor.list_of_parameters):
        predictor.network.load_state_dict(weights)
        shape = (channels, *predictor.configuration_manager.patch_size)
        measured.append(export(predictor.network.eval(), shape, folder / f"fold_{fold}.onnx"))
    return measured


if __name__ == "__main__":
    main()
