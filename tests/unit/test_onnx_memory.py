"""How much memory a network takes is read from its graph before it runs."""

from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx import helper, numpy_helper

from node.adapters import onnx_memory
from node.adapters.onnx_memory import bytes_at_work, free_host_bytes
from node.adapters.onnx_session import OnnxPredictor, open_predictor
from node.domain.errors import SetupError
from node.inference.network_tables import Output
from node.inference.package import LoadedPackage
from tests.unit.test_segment import PACKAGE
from tests.windowed import model, saved, thresholds, windowed_input

PATCH = (4, 10, 16)
VOXELS = 4 * 10 * 16


def test_what_is_computed_counts_until_the_last_that_reads_it(tmp_path: Path) -> None:
    # One channel in, three out of the second; at its time input and first are no longer needed but just made:
    # image -> wide (6 channels) -> scores (3 channels).
    nodes = [
        helper.make_node("Mul", ["image", "six"], ["wide"]),
        helper.make_node("Slice", ["wide", "zero", "three", "channels"], ["scores"]),
    ]
    constants = [
        numpy_helper.from_array(np.ones((1, 6, 1, 1, 1), dtype=np.float32), "six"),
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([3]), "three"),
        numpy_helper.from_array(np.array([1]), "channels"),
    ]
    path = tmp_path / "graph.onnx"
    path.write_bytes(model(nodes, constants, (1, 3), PATCH).SerializeToString())

    # The first holds 1 + 6 channels, the second 6 + 3, and scratch of the largest, 6.
    assert bytes_at_work(path) == (6 + 3 + 6) * VOXELS * 4


def test_a_size_that_is_unknown_is_refused(tmp_path: Path) -> None:
    network = thresholds(PATCH)
    network.graph.node[0].op_type = "Strange"
    network.graph.node[0].domain = "of.somebody"
    network.opset_import.append(helper.make_opsetid("of.somebody", 1))
    network.graph.node[0].output[0] = "between"
    network.graph.node.append(helper.make_node("Relu", ["between"], ["scores"]))
    path = tmp_path / "graph.onnx"
    path.write_bytes(network.SerializeToString())

    with pytest.raises(SetupError, match=r"graph\.onnx computes something of unknown size \(between\)"):
        bytes_at_work(path)


def test_the_free_memory_is_some_and_no_more_than_the_machine_has() -> None:
    total = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1]) * 1024

    assert 0 < free_host_bytes() <= total


def test_a_limit_of_the_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(onnx_memory, "GROUP", tmp_path)

    assert free_host_bytes() == 600_000


def test_a_group_without_a_limit_takes_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(onnx_memory, "GROUP", tmp_path)

    assert free_host_bytes() > 600_000


def test_a_graph_of_other_patches_than_the_manifest_says_is_refused(tmp_path: Path) -> None:
    loaded = saved(tmp_path, windowed_input((4, 10, 8)), Output(classes=3), thresholds(PATCH))

    with pytest.raises(SetupError, match=r"takes \[1, 1, 4, 10, 16\]; its manifest says \[1, 1, 4, 10, 8\]"):
        open_predictor(loaded, "cpu", threads=1)


def test_a_graph_that_takes_any_batch_is_run(tmp_path: Path) -> None:
    network = thresholds(PATCH)
    for end in (network.graph.input[0], network.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    loaded = saved(tmp_path, windowed_input(PATCH), Output(classes=3), network)

    assert open_predictor(loaded, "cpu", threads=1).computed_by.startswith("CPUExecutionProvider")


def test_networks_that_are_open_together_hold_the_memory_of_one_at_work(tmp_path: Path) -> None:
    # 32 channels of 64 · 128 · 128 voxels between image and scores: 134 MB.
    patch, between = (64, 128, 128), 32 * 64 * 128 * 128 * 4
    nodes = [
        helper.make_node("Mul", ["image", "ones"], ["wide"]),
        helper.make_node("Slice", ["wide", "zero", "three", "channels"], ["scores"]),
    ]
    constants = [
        numpy_helper.from_array(np.ones((1, 32, 1, 1, 1), dtype=np.float32), "ones"),
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([3]), "three"),
        numpy_helper.from_array(np.array([1]), "channels"),
    ]
    (tmp_path / "graph.onnx").write_bytes(model(nodes, constants, (1, 3), patch).SerializeToString())
    loaded = LoadedPackage(package=PACKAGE, graph_paths=(tmp_path / "graph.onnx",))
    networks = [open_predictor(loaded, "cpu", threads=1) for _ in range(4)]
    image = np.zeros((1, 1, *patch), dtype=np.float32)
    before = psutil.Process().memory_info().rss

    for network in networks:
        assert isinstance(network, OnnxPredictor)
        network.predict(image)

    # An arena grows by powers of two; one for each network would hold four times what one does.
    assert psutil.Process().memory_info().rss - before < 3 * between
