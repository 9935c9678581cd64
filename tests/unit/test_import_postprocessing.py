"""What nnU-Net does after the network becomes rules, or is refused; no code of its file ever runs."""

import json
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from node.convert.postprocessing import find_postprocessing, other_postprocessing, read_postprocessing
from node.convert.refusals import ImportOptions
from node.domain.errors import SetupError
from node.inference.package import KeepLargest

MODULE = "nnunetv2.postprocessing.remove_connected_components"
KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"
OPTIONS = ImportOptions(made_on="2026-11-21")
KNOWN = (1, 2, 3)


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Stand in for nnU-Net's module while a pickle is written: it holds names alone."""
    module = types.ModuleType(MODULE)
    for name in (KEEP_LARGEST, "remove_everything"):
        function = types.FunctionType(_never.__code__, {}, name)
        function.__module__, function.__qualname__ = MODULE, name
        setattr(module, name, function)
    with monkeypatch.context() as patched:
        parents = ("nnunetv2", "nnunetv2.postprocessing")
        for name, each in ((MODULE, module), *((parent, types.ModuleType(parent)) for parent in parents)):
            patched.setitem(sys.modules, name, each)
        yield module


def _never(*_: object, **__: object) -> None:
    raise AssertionError("nothing of a pickle is called")


def written(folder: Path, functions: list[Any], arguments: list[Any]) -> Path:
    path = folder / "postprocessing.pkl"
    path.write_bytes(pickle.dumps((functions, arguments)))
    return path


def test_labels_and_regions_become_rules_in_their_order(tmp_path: Path, functions: types.ModuleType) -> None:
    labels = [{"labels_or_regions": [1, 2, 3]}, {"labels_or_regions": 2}, {"labels_or_regions": (1, 3)}]
    path = written(tmp_path, [getattr(functions, KEEP_LARGEST)] * 3, labels)

    rules = read_postprocessing(path).rules(KNOWN)

    assert rules == (
        KeepLargest(labels=(1, 2, 3), neighbours=26),
        KeepLargest(labels=(2,), neighbours=26),
        KeepLargest(labels=(1, 3), neighbours=26),
    )


def test_labels_may_be_numbers_of_numpy_and_regions_stand_among_labels(
    tmp_path: Path, functions: types.ModuleType
) -> None:
    mixed = [*np.unique([3, 2]), (np.int64(1), 2)]
    path = written(tmp_path, [getattr(functions, KEEP_LARGEST)], [{"labels_or_regions": mixed, "background_label": 0}])

    assert read_postprocessing(path).rules(KNOWN) == (KeepLargest(labels=(1, 2, 3), neighbours=26),)


def test_a_label_that_the_network_never_makes_is_left_out_and_so_is_a_rule_of_such_alone(
    tmp_path: Path, functions: types.ModuleType
) -> None:
    path = written(
        tmp_path, [getattr(functions, KEEP_LARGEST)] * 2, [{"labels_or_regions": (2, 7)}, {"labels_or_regions": 7}]
    )

    assert read_postprocessing(path).rules(KNOWN) == (KeepLargest(labels=(2,), neighbours=26),)


def test_nothing_to_be_done_is_no_rule(tmp_path: Path) -> None:
    assert read_postprocessing(written(tmp_path, [], [])).rules(KNOWN) == ()


def test_the_json_beside_it_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "postprocessing.json"
    told = {"postprocessing_fns": [KEEP_LARGEST], "postprocessing_kwargs": [{"labels_or_regions": [[1, 2], 3]}]}
    path.write_text(json.dumps({"input_folder": {}, **told}))

    assert read_postprocessing(path).rules(KNOWN) == (KeepLargest(labels=(1, 2, 3), neighbours=26),)


class Program:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_a_file_that_holds_a_program_is_refused_and_the_program_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SetupError, match="is no postprocessing of nnU-Net: it names") as refused:
        read_postprocessing(written(tmp_path, [Program()], [{}]))

    assert not (tmp_path / "ran").exists()
    assert "--without-postprocessing" in refused.value.remedy


def test_another_function_is_refused_by_its_name(tmp_path: Path, functions: types.ModuleType) -> None:
    path = written(tmp_path, [functions.remove_everything], [{"labels_or_regions": 1}])

    with pytest.raises(SetupError, match=rf"it names {MODULE}\.remove_everything"):
        read_postprocessing(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([{"labels_or_regions": 1, "background_label": 2}], "fills with label 2, not 0"),
        ([{"labels_or_regions": 1, "minimum": 5}], "with {'labels_or_regions': 1, 'minimum': 5}"),
        ([{}], "with {}"),
        ([[1]], r"with \[1\]"),
        ([{"labels_or_regions": "liver"}], "names labels 'liver'"),
        ([{"labels_or_regions": 1.5}], "names labels 1.5"),
        ([], "calls functions without arguments"),
    ],
)
def test_arguments_that_no_rule_stands_for_are_refused(
    tmp_path: Path, functions: types.ModuleType, arguments: list[Any], said: str
) -> None:
    path = written(tmp_path, [getattr(functions, KEEP_LARGEST)], arguments)

    with pytest.raises(SetupError, match=said):
        read_postprocessing(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", pickle.dumps("text"), pickle.dumps(3)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "postprocessing.pkl").write_bytes(content)

    with pytest.raises(SetupError, match="is no postprocessing of nnU-Net"):
        read_postprocessing(tmp_path / "postprocessing.pkl")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read_postprocessing(tmp_path / "postprocessing.pkl")


def test_it_is_found_in_the_folder_or_in_the_cross_validation_of_the_same_folds(tmp_path: Path) -> None:
    of_all, of_two = (tmp_path / f"crossval_results_folds_{folds}" for folds in ("0_1_2_3_4", "0_1"))
    for folder in (of_all, of_two):
        folder.mkdir()
        (folder / "postprocessing.pkl").touch()

    assert find_postprocessing(tmp_path, ("0", "1"), OPTIONS) == of_two / "postprocessing.pkl"
    assert find_postprocessing(tmp_path, ("0",), OPTIONS) is None
    assert other_postprocessing(tmp_path, ("0",)) == ("crossval_results_folds_0_1", "crossval_results_folds_0_1_2_3_4")
    (tmp_path / "postprocessing.json").touch()
    assert find_postprocessing(tmp_path, ("0",), OPTIONS) == tmp_path / "postprocessing.json"


def test_a_person_may_name_another_or_none(tmp_path: Path) -> None:
    (tmp_path / "postprocessing.pkl").touch()
    named = ImportOptions(made_on="2026-11-21", postprocessing=Path("elsewhere.pkl"))
    without = ImportOptions(made_on="2026-11-21", with_postprocessing=False)

    assert find_postprocessing(tmp_path, ("0",), named) == Path("elsewhere.pkl")
    assert find_postprocessing(tmp_path, ("0",), without) is None
