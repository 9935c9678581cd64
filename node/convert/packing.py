"""Weights that float16 holds exactly, kept so: half the file, the same numbers.

`delineate train` rounds its weights to float16 before it measures anything. In the file each becomes a float16 constant
and a Cast, which ONNX Runtime folds into the float32 weight when it loads: computing is float32 as ever.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_KEPT = "_f16"


def packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the network with its weights in float16, if float16 holds every one of them exactly; else as it is."""
    weights = [each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT]
    if not weights or not all(_is_exact(each) for each in weights):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name + _KEPT))
        casts.append(helper.make_node("Cast", [name + _KEPT], [name], name=f"cast_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *copy.graph.node]
    whole = onnx.GraphProto(node=nodes)  # copies them: what is deleted below is gone
    del copy.graph.node[:]
    copy.graph.node.extend(whole.node)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def unpacked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give a network that `packed` made with its weights in float32 again; any other as it is."""
    kept = {each.name: each for each in model.graph.initializer if each.data_type == TensorProto.FLOAT16}
    casts = [
        node
        for node in model.graph.node
        if node.op_type == "Cast" and node.input[0] in kept and node.input[0] == node.output[0] + _KEPT
    ]
    if not casts:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    gone = {node.output[0] for node in casts}
    whole = onnx.GraphProto(node=[node for node in copy.graph.node if not gone & set(node.output)])
    del copy.graph.node[:]
    copy.graph.node.extend(whole.node)
    for tensor in copy.graph.initializer:
        name = tensor.name.removesuffix(_KEPT)
        if name in gone:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
    return copy


def _is_exact(tensor: onnx.TensorProto) -> bool:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())
