"""Instance normalisation over many values, against float64."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from node.adapters.onnx_exact import has_instance_normalisation, with_exact_instance_normalisation
from node.adapters.onnx_session import answers


def normalisation(shape: tuple[int, ...], scale: list[float], bias: list[float], epsilon: float) -> onnx.ModelProto:
    node = helper.make_node("InstanceNormalization", ["patches", "scale", "bias"], ["scores"], epsilon=epsilon)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("patches", "scores")]
    weights = [
        numpy_helper.from_array(np.array(values, dtype=np.float32), name)
        for name, values in (("scale", scale), ("bias", bias))
    ]
    graph = helper.make_graph([node], "normalisation", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def normalised(
    values: NDArray[np.float32], scale: list[float], bias: list[float], epsilon: float
) -> NDArray[np.float64]:
    exact = values.astype(np.float64)
    axes = tuple(range(2, exact.ndim))
    centred = exact - exact.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=axes, keepdims=True) + epsilon)
    sides = (1, -1, *(1 for _ in axes))
    return np.asarray(centred / deviation * np.reshape(scale, sides) + np.reshape(bias, sides))


@pytest.mark.parametrize("mean", [0.0, 3.0, 30.0])
def test_two_million_values_of_a_channel_are_normalised_as_exactly_as_a_few(mean: float) -> None:
    shape = (1, 2, 128, 128, 128)
    values = np.random.default_rng(1).standard_normal(shape, dtype=np.float32) + np.float32(mean)
    values[:, 1] *= 0.1

    found, _ = answers(normalisation(shape, [1.0, 2.0], [0.0, -1.0], 1e-5).SerializeToString(), values)

    # ONNX Runtime's own is off by up to 3.7e-4 here.
    assert np.abs(found - normalised(values, [1.0, 2.0], [0.0, -1.0], 1e-5)).max() < 5e-6


@pytest.mark.parametrize("shape", [(1, 3, 5), (1, 3, 4, 6), (1, 3, 2, 4, 6)])
def test_it_is_the_same_normalisation_in_one_two_and_three_dimensions(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).standard_normal(shape, dtype=np.float32)
    scale, bias = [1.0, -2.0, 0.5], [0.0, 1.0, 2.0]

    found, _ = answers(normalisation(shape, scale, bias, 0.1).SerializeToString(), values)

    np.testing.assert_allclose(found, normalised(values, scale, bias, 0.1), atol=1e-6)


def test_a_batch_of_unknown_size_is_one_image() -> None:
    model = normalisation((1, 3, 4, 6), [1.0, -2.0, 0.5], [0.0, 1.0, 2.0], 0.1)
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"

    assert not has_instance_normalisation(with_exact_instance_normalisation(model))


def test_several_images_at_a_time_are_normalised_each_by_itself() -> None:
    values = np.random.default_rng(4).standard_normal((2, 3, 4, 6), dtype=np.float32) * np.arange(1, 3).reshape(
        2, 1, 1, 1
    )
    scale, bias = [1.0, -2.0, 0.5], [0.0, 1.0, 2.0]

    found, _ = answers(normalisation((2, 3, 4, 6), scale, bias, 0.1).SerializeToString(), values.astype(np.float32))

    np.testing.assert_allclose(found, normalised(values, scale, bias, 0.1), atol=1e-6)


def test_an_only_channel_is_normalised_by_its_own_epsilon_or_the_default() -> None:
    values = np.float32(1e-3) * np.random.default_rng(5).standard_normal((1, 1, 4, 6), dtype=np.float32)
    model = normalisation((1, 1, 4, 6), [1.0], [0.5], 1e-5)
    del model.graph.node[0].attribute[:]

    by_default, _ = answers(model.SerializeToString(), values)
    by_its_own, _ = answers(normalisation((1, 1, 4, 6), [1.0], [0.5], 1e-3).SerializeToString(), values)

    np.testing.assert_allclose(by_default, normalised(values, [1.0], [0.5], 1e-5), atol=1e-6)
    np.testing.assert_allclose(by_its_own, normalised(values, [1.0], [0.5], 1e-3), atol=1e-6)


def test_a_network_without_one_is_left_alone_and_the_given_one_unchanged() -> None:
    model = normalisation((1, 1, 4), [1.0], [0.0], 1e-5)
    before = model.SerializeToString()

    exact = with_exact_instance_normalisation(model)

    assert has_instance_normalisation(model)
    assert not has_instance_normalisation(exact)
    assert model.SerializeToString() == before
    onnx.checker.check_model(exact, full_check=True)


def test_weights_in_another_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    model = normalisation((1, 2, 40, 40), [1.0, 2.0], [0.0, 1.0], 1e-5)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    values = np.random.default_rng(3).standard_normal((1, 2, 40, 40), dtype=np.float32)

    found, _ = answers(path, values)

    assert (tmp_path / "weights.bin").exists()
    np.testing.assert_allclose(found, normalised(values, [1.0, 2.0], [0.0, 1.0], 1e-5), atol=1e-6)
