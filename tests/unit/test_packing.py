import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from node.adapters.onnx_session import answers
from node.convert.packing import packed, unpacked


def network(weights: np.ndarray) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 4, 4, 4])
        for name, channels in (("patches", 1), ("scores", 2))
    ]
    nodes = [helper.make_node("Conv", ["patches", "w", "b"], ["scores"], pads=[1] * 6)]
    constants = [
        numpy_helper.from_array(weights.astype(np.float32), "w"),
        numpy_helper.from_array(np.array([0.5, -0.25], np.float32), "b"),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


RANDOM = np.random.default_rng(1).normal(size=(2, 1, 3, 3, 3))
HALVES = RANDOM.astype(np.float16)


def test_weights_that_float16_holds_take_half_the_bytes_and_answer_the_same() -> None:
    model = network(HALVES)
    noise = np.random.default_rng(2).normal(size=(1, 1, 4, 4, 4)).astype(np.float32)

    small = packed(model)

    kinds = {each.name: each.data_type for each in small.graph.initializer}
    assert kinds == {"w_f16": TensorProto.FLOAT16, "b_f16": TensorProto.FLOAT16}
    expected, _ = answers(model.SerializeToString(), noise)
    found, _ = answers(small.SerializeToString(), noise)
    np.testing.assert_array_equal(found, expected)
    assert unpacked(small).graph == model.graph


def test_weights_that_float16_rounds_stay_as_they_are() -> None:
    model = network(RANDOM)

    assert packed(model) is model
    assert unpacked(model) is model
    assert packed(network(HALVES.astype(np.float32) * 1e30)).graph.initializer[0].data_type == TensorProto.FLOAT
