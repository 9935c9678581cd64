"""A network's copy in float16 is the network but for rounding, and how much that changes is measured, not guessed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from node.adapters.onnx_file import HALF_OPERATORS, OPERATORS, read_graph, refuse_not_half, refuse_unfit
from node.adapters.onnx_session import HALF_ROUNDED, answers
from node.convert.copies import half_copy, make_copies, rounded
from node.domain.errors import SetupError
from node.inference.network_tables import GraphFile, Output
from node.inference.parts import Network
from tests.windowed import convolution, octants, u_net, windowed_input

PATCH = (8, 16, 8)
VOXELS = 8 * 16 * 8


def point(weight: float, bias: float = 0.0, last: float = 1.0) -> onnx.ModelProto:
    """Make a network of one voxel: class 0 is 0, class 1 is (weight · value + bias) · last."""
    network = convolution(np.array([0, weight]).reshape(2, 1, 1, 1, 1), [0, bias], (1, 1, 1))
    network.graph.node[0].output[0] = "between"
    matrix = np.diag([1, last]).reshape(2, 2, 1, 1, 1).astype(np.float32)
    network.graph.initializer.append(numpy_helper.from_array(matrix, "last"))
    network.graph.node.append(onnx.helper.make_node("Conv", ["between", "last"], ["scores"]))
    return network


def answered(network: onnx.ModelProto, value: float) -> float:
    """Give the score of class 1."""
    scores, _ = answers(network.SerializeToString(), np.full((1, 1, 1, 1, 1), value, dtype=np.float32))
    return float(scores[0, 1, 0, 0, 0])


def written(folder: Path, *networks: onnx.ModelProto) -> list[GraphFile]:
    graphs = [GraphFile(file=f"fold_{fold}.onnx", sha256="0" * 64) for fold in range(len(networks))]
    for graph, network in zip(graphs, networks, strict=True):
        (folder / graph.file).write_bytes(network.SerializeToString())
    return graphs


def test_a_copy_has_weights_of_float16_and_ends_of_float32() -> None:
    copy = half_copy(u_net(PATCH))

    assert {each.data_type for each in copy.graph.initializer} == {TensorProto.FLOAT16}
    ends = [end.type.tensor_type.elem_type for end in (*copy.graph.input, *copy.graph.output)]
    assert ends == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert [each.name for each in (*copy.graph.input, *copy.graph.output)] == ["image", "scores"]
    refuse_unfit(copy, "the copy")
    refuse_not_half(copy, "the copy")


def test_a_copy_is_the_network_but_for_rounding() -> None:
    network = u_net(PATCH)
    noise = np.random.default_rng(3).standard_normal((1, 1, *PATCH)).astype(np.float32)

    exact, _ = answers(network.SerializeToString(), noise)
    copy, _ = answers(half_copy(network).SerializeToString(), noise)

    assert 0 < np.abs(copy - exact).max() < 0.01 * exact.std()


def of(graphs: list[GraphFile], patch: tuple[int, int, int] = PATCH, regions: bool = False) -> Network:
    output = Output(classes=2, activation="regions", region_values=(1, 2)) if regions else Output(classes=2)
    return Network(input=windowed_input(patch), output=output, graphs=tuple(graphs))


def test_every_answer_is_rounded_as_an_accelerator_rounds_it() -> None:
    # A third is 0.333251953125 in float16, where numbers from 2048 on are 2 apart.
    assert answered(rounded(point(1 / 3)), 1.0) == 0.333251953125
    assert answered(rounded(point(1.0)), 2051.0) == 2052.0
    assert answered(point(1.0), 2051.0) == 2051.0


def test_what_is_beyond_float16_on_the_way_is_no_finite_number() -> None:
    large_between = point(weight=30000.0, last=1e-4)

    # ONNX Runtime's own provider computes the copy in float32 and would not show it.
    assert answered(half_copy(large_between), 3.0) == pytest.approx(9.0, rel=1e-3)
    assert np.isinf(answered(rounded(large_between), 3.0))


def test_how_far_a_copy_is_from_the_network_is_stated(tmp_path: Path) -> None:
    graphs = written(tmp_path, u_net(PATCH, seed=1), u_net(PATCH, seed=2))

    copies = make_copies(tmp_path, [of(graphs)])

    (made,) = copies.graphs
    assert [(each.file, each.precision) for each in made] == [
        ("fold_0.f16.onnx", "f16"),
        ("fold_1.f16.onnx", "f16"),
    ]
    (parity,) = copies.parity
    assert parity.computed_by.startswith(f"{HALF_ROUNDED} CPUExecutionProvider, float32, onnxruntime ")
    assert parity.voxels == 2 * 2 * VOXELS
    assert parity.differing_voxels < 0.02 * parity.voxels
    assert "scores differ by at most" in parity.remark
    assert copies.remarks == ()


def test_a_copy_of_another_network_that_was_left_there_is_written_over(tmp_path: Path) -> None:
    make_copies(tmp_path, [of(written(tmp_path, u_net(PATCH, seed=1)))])
    other = u_net(PATCH, seed=2)

    make_copies(tmp_path, [of(written(tmp_path, other))])

    assert read_graph(tmp_path / "fold_0.f16.onnx") == half_copy(other)


def test_networks_whose_files_are_named_alike_but_for_what_follows_a_point_have_a_copy_each(tmp_path: Path) -> None:
    graphs = [GraphFile(file=f"fold.{fold}", sha256="0" * 64) for fold in range(2)]
    for fold, graph in enumerate(graphs):
        (tmp_path / graph.file).write_bytes(u_net(PATCH, seed=fold).SerializeToString())

    ((first, second),) = make_copies(tmp_path, [of(graphs)]).graphs

    assert (first.file, second.file) == ("fold.0.f16.onnx", "fold.1.f16.onnx")


def test_of_regions_each_one_counts(tmp_path: Path) -> None:
    # From 512 on numbers are 0.5 apart: the first score's sign gets lost, and the second's stays 5 above.
    network = convolution(np.ones((2, 1, 1, 1, 1)), [1000.0, 1000.0], PATCH)
    network.graph.node[0].output[0] = "between"
    last = (np.eye(2).reshape(2, 2, 1, 1, 1), np.array([-1000, -995]))
    for name, values in zip(("last", "back"), last, strict=True):
        network.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    network.graph.node.append(onnx.helper.make_node("Conv", ["between", "last", "back"], ["scores"]))
    graphs = written(tmp_path, network)

    of_regions, of_classes = (make_copies(tmp_path, [of(graphs, regions=each)]) for each in (True, False))

    assert of_regions.parity[0].differing_voxels > 0.05 * 2 * VOXELS
    assert of_classes.parity[0].differing_voxels == 0


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (point(1e5), "The weights weights are beyond float16"),
        (point(3e4, bias=6e4, last=1e-4), "A score of noise is no finite number there"),
        (octants((2, 2, 2)), "The operators Mul are not known to run in float16"),
    ],
)
def test_what_cannot_be_copied_is_said_and_leaves_no_file(tmp_path: Path, network: onnx.ModelProto, said: str) -> None:
    graphs = written(tmp_path, network)
    _, _, *sides = network.graph.input[0].type.tensor_type.shape.dim
    patch = (sides[0].dim_value, sides[1].dim_value, sides[2].dim_value)

    copies = make_copies(tmp_path, [of(graphs, patch)])

    assert (copies.graphs, copies.parity) == (((),), ())
    (remark,) = copies.remarks
    assert remark.startswith(f"It does not run in float16: {said}")
    assert [each.name for each in tmp_path.iterdir()] == ["fold_0.onnx"]


def test_what_runs_in_float16_runs_in_float32() -> None:
    assert HALF_OPERATORS < OPERATORS


def test_a_file_that_is_no_copy_in_float16_is_refused(tmp_path: Path) -> None:
    (graph,) = written(tmp_path, u_net(PATCH))

    with pytest.raises(SetupError, match="lists with precision f16 holds none, or weights in float32 too"):
        refuse_not_half(read_graph(tmp_path / graph.file), "liver")
