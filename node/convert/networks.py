"""Building the network that a checkpoint's weights belong to, by nnU-Net's own classes."""

import contextlib
import importlib
import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from node.convert.checkpoints import Checkpoint
from node.convert.refusals import refused
from node.convert.results_folder import TrainedNetwork

_TRAINERS = "nnunetv2.training.nnUNetTrainer"


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep nnU-Net from telling of folders that nobody needs here."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_trainer(name: str) -> None:
    """Make sure that a trainer builds its network from the plans, as nnU-Net's first one does.

    nnU-Net imports every module beside its trainers to find one; here only the module that defines it is imported.

    Raises
    ------
    SetupError
        It is none of nnU-Net's, or builds a network of its own.
    """
    with silent():
        first = importlib.import_module(f"{_TRAINERS}.nnUNetTrainer").nnUNetTrainer
        trainer = getattr(_module_of(name, first), name)
    if trainer.build_network_architecture is not first.build_network_architecture:
        raise refused(f"The trainer {name} builds a network of its own", "Networks from plans.json are supported.")


def build(trained: TrainedNetwork) -> torch.nn.Module:
    """Build the network of a configuration, without weights, ready for inference.

    Raises
    ------
    SetupError
        Its plans make no network.
    """
    with silent():
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: PLC0415

        plans, configuration = managers(trained)
        try:
            network: torch.nn.Module = get_network_from_plans(
                configuration.network_arch_class_name,
                configuration.network_arch_init_kwargs,
                configuration.network_arch_init_kwargs_req_import,
                len(trained.input.channels),
                plans.get_label_manager(trained.dataset).num_segmentation_heads,
                deep_supervision=False,
            )
        except Exception as error:  # of the network's class, about arguments that plans.json gives
            raise refused(
                f"The network of {trained.configuration} cannot be built: {error}", "Copy plans.json."
            ) from error
    return network.eval()


def managers(trained: TrainedNetwork) -> tuple[Any, Any]:
    """Give nnU-Net's own managers of plans and of a configuration; they change what they get."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

    plans = PlansManager(json.loads(json.dumps(trained.plans)))
    return plans, plans.get_configuration(trained.configuration)


def take_weights(network: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Give a network the weights of a checkpoint.

    Raises
    ------
    SetupError
        They are not the network's: another name, another shape, or no finite number.
    """
    weights: Mapping[str, torch.Tensor] = checkpoint.weights
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        said = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise refused(
            f"The weights of {checkpoint.file} do not fit the network of plans.json: {said}",
            "Copy plans.json and checkpoints from one and the same training.",
        ) from error
    unsound = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if unsound:
        raise refused(
            f"In {checkpoint.file} {unsound[0]} holds a value that is no finite number", "Import another checkpoint."
        )


def _module_of(name: str, first: Any) -> Any:
    folder = Path(str(importlib.import_module(first.__module__).__file__)).parent
    defines = re.compile(rf"^class {re.escape(name)}\(", re.MULTILINE)
    found = [path for path in sorted(folder.rglob("*.py")) if defines.search(path.read_text(encoding="utf-8"))]
    if name == first.__name__:
        return importlib.import_module(first.__module__)
    if not found:
        raise refused(
            f"The trainer {name} is none of this nnU-Net's",
            "If it only trains otherwise and takes its network from plans.json, give --as-trainer nnUNetTrainer: "
            "the weights are taken only if every one of them fits.",
        )
    inside = found[0].relative_to(folder).with_suffix("").parts
    return importlib.import_module(".".join((_TRAINERS, *inside)))
