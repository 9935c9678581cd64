"""What nnU-Net found worth doing to labels after the network, as rules of a manifest.

``nnUNetv2_find_best_configuration`` leaves it as ``postprocessing.pkl``, a list of functions and a list of their
arguments, and tells the same in ``postprocessing.json``. The pickle names functions; none is loaded here: the name of
the only one that nnU-Net has is recognised, and every other name is refused.
"""

import hashlib
import io
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from node.convert.refusals import UNSUPPORTED, ImportOptions, refused
from node.inference.package import KeepLargest
from node.inference.transforms import Labels

PICKLE, TOLD = "postprocessing.pkl", "postprocessing.json"

_MODULE = "nnunetv2.postprocessing.remove_connected_components"
_KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"
# Labels are numbers of NumPy, some of them; the function that makes one was in numpy.core before NumPy 2.
_SCALAR = np.int64(0).__reduce__()[0]
_NUMBERS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
}
# As scikit-image counts them unless told otherwise, which nnU-Net does not.
_NEIGHBOURS = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Postprocessing:
    """What nnU-Net does after the network."""

    file: str
    sha256: str
    # Of each call of its function, in their order.
    arguments: tuple[Mapping[str, Any], ...]

    def rules(self, label_values: Sequence[int]) -> tuple[KeepLargest, ...]:
        """Give the rules of a package whose network makes these labels; a label that it never makes is left out."""
        named = (sorted({*map(int, _numbers(each["labels_or_regions"]))} & {*label_values}) for each in self.arguments)
        return tuple(KeepLargest(labels=tuple(labels), neighbours=_NEIGHBOURS) for labels in named if labels)

    def applied(self, labels: Labels) -> Labels:
        """Apply nnU-Net's own function."""
        from nnunetv2.postprocessing import remove_connected_components  # noqa: PLC0415 - takes seconds, needs torch

        keep_largest = getattr(remove_connected_components, _KEEP_LARGEST)
        for each in self.arguments:
            labels = keep_largest(labels, **each)
        return labels


def find_postprocessing(folder: Path, folds: Sequence[str], options: ImportOptions) -> Path | None:
    """Find the file: the one asked for, or in the results folder, or of the cross-validation of just these folds."""
    if options.postprocessing is not None or not options.with_postprocessing:
        return options.postprocessing
    places = (folder, folder / f"crossval_results_folds_{'_'.join(folds)}")
    return next((path for place in places for name in (PICKLE, TOLD) if (path := place / name).is_file()), None)


def other_postprocessing(folder: Path, folds: Sequence[str]) -> tuple[str, ...]:
    """Name what is there for other folds than these."""
    own = f"crossval_results_folds_{'_'.join(folds)}"
    found = {path.parent.name for path in folder.glob("crossval_results_folds_*/postprocessing.*")}
    return tuple(sorted(found - {own}))


def read_postprocessing(path: Path) -> Postprocessing:
    """Read either file.

    Raises
    ------
    SetupError
        It cannot be read, or names what a package cannot do.
    """
    try:
        content = path.read_bytes()
        told = json.loads(content) if path.suffix == ".json" else None
    except (OSError, ValueError) as error:
        raise refused(f"{path} cannot be read: {error}", _remedy()) from error
    functions, arguments = _of_pickle(content, path) if told is None else _of_json(told, path)
    other = [str(each) for each in functions if each != _KEEP_LARGEST]
    if other or len(functions) != len(arguments):
        raise refused(f"{path} calls {', '.join(other) or 'functions without arguments'}", f"{UNSUPPORTED} {_remedy()}")
    for each in arguments:
        _check(each, path)
    return Postprocessing(file=path.name, sha256=hashlib.sha256(content).hexdigest(), arguments=tuple(arguments))


class _NamesAlone(pickle.Unpickler):
    """Builds lists, tuples and numbers; a function becomes its name, and what is not known is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (_MODULE, _KEEP_LARGEST):
            return name
        if (module, name) in _NUMBERS:
            return _NUMBERS[module, name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _of_pickle(content: bytes, path: Path) -> tuple[list[Any], list[Any]]:
    try:
        functions, arguments = _NamesAlone(io.BytesIO(content)).load()
        return list(functions), list(arguments)
    except Exception as error:  # a pickle that is damaged raises anything
        raise refused(f"{path} is no postprocessing of nnU-Net: {error}", _remedy()) from error


def _of_json(told: Any, path: Path) -> tuple[list[Any], list[Any]]:
    try:
        return list(told["postprocessing_fns"]), list(told["postprocessing_kwargs"])
    except (KeyError, TypeError) as error:
        raise refused(f"{path} is no postprocessing of nnU-Net: {error!r}", _remedy()) from error


def _check(arguments: Any, path: Path) -> None:
    known = {"labels_or_regions", "background_label"}
    if not isinstance(arguments, dict) or not {"labels_or_regions"} <= set(arguments) <= known:
        raise refused(f"{path} calls {_KEEP_LARGEST} with {arguments!r}", f"{UNSUPPORTED} {_remedy()}")
    if arguments.get("background_label", 0) != 0:
        raise refused(f"{path} fills with label {arguments['background_label']}, not 0", f"{UNSUPPORTED} {_remedy()}")
    if not all(isinstance(each, int | np.integer) for each in _numbers(arguments["labels_or_regions"])):
        raise refused(f"{path} names labels {arguments['labels_or_regions']!r}", _remedy())


def _numbers(labels_or_regions: Any) -> Iterator[Any]:
    """Give every label of labels and regions, which are taken together."""
    if isinstance(labels_or_regions, list | tuple):
        for each in labels_or_regions:
            yield from _numbers(each)
    else:
        yield labels_or_regions


def _remedy() -> str:
    return "Name another by --postprocessing, or leave it out by --without-postprocessing."
