"""What a network's file is made of, read without running it.

`onnx` is imported when a file is read, not before: it takes a tenth of a second, and most processes read none.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from node.domain.errors import SetupError

if TYPE_CHECKING:
    import onnx

# From opset 22 on ONNX Runtime has no CUDA kernel for InstanceNormalization and MaxPool; before 18 Resize and others
# mean something else.
OPSETS = range(18, 22)

# Operators that a network may use, by what for. For each, ONNX Runtime 1.31.1 registers a CUDA kernel for all of these
# opsets (read from the wheel's own registry of kernels), so that no part of a network runs on the CPU in silence.
# Control flow (If, Loop, Scan) is not among them: how long it runs, and how much memory it takes, nobody can plan. Nor
# are sequences, random numbers, and integer arithmetic of quantised networks, whose labels differ.
_OPERATORS_BY_USE = {
    "layers": "Conv ConvTranspose Gemm MatMul Einsum AveragePool MaxPool GlobalAveragePool GlobalMaxPool "
    "BatchNormalization InstanceNormalization LayerNormalization LpNormalization LRN",
    "activations": "Relu LeakyRelu PRelu Elu Selu ThresholdedRelu HardSigmoid HardSwish Sigmoid Tanh Softplus Softsign "
    "Softmax LogSoftmax Erf Dropout Identity",
    "arithmetic": "Add Sub Mul Div Neg Abs Sign Sqrt Exp Log Pow Reciprocal Mod Floor Ceil Round Clip Min Max Sum Sin "
    "Cos CumSum",
    "comparison": "Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Xor Where IsNaN IsInf",
    "reduction": "ReduceMax ReduceMin ReduceMean ReduceSum ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp ArgMax ArgMin TopK",
    "shape": "Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Pad Tile Expand Gather GatherElements "
    "GatherND ScatterElements ScatterND Compress NonZero OneHot Trilu DepthToSpace SpaceToDepth Shape Size Range "
    "ConstantOfShape EyeLike Cast",
    "resampling": "Resize GridSample",
    # No kernel: ONNX Runtime makes a weight of it when it loads the file.
    "constants": "Constant",
}
OPERATORS = frozenset(" ".join(_OPERATORS_BY_USE.values()).split())

# Of these, what has a CUDA kernel for float16 too, tried with the wheel, and means the same in every precision: no
# input of theirs must stay float32 (as scales of Resize), and none makes numbers of its own (as Constant).
_HALF_OPERATORS = (
    "Conv ConvTranspose AveragePool MaxPool BatchNormalization InstanceNormalization LeakyRelu PRelu Relu Sigmoid "
    "Softmax Add Div Concat Transpose"
)
HALF_OPERATORS = frozenset(_HALF_OPERATORS.split())

# onnx.TensorProto's numbers.
_FLOAT32, _FLOAT16 = 1, 10

_DEFAULT_DOMAIN = ("", "ai.onnx")
_AGAIN = "Copy the model package again from its source."


def read_graph(path: Path) -> "onnx.ModelProto":
    """Read a network's file; weights in other files stay there.

    Raises
    ------
    SetupError
        It cannot be read or is no ONNX model.
    """
    import onnx  # noqa: PLC0415 - see above
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        return onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise SetupError(f"The graph file {path.name} is no ONNX model.", _AGAIN) from error
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.", _AGAIN) from error


def refuse_unfit(model: "onnx.ModelProto", name: str) -> None:
    """Refuse what does not run here, or not by CUDA as a whole, or is more than the one file.

    Parameters
    ----------
    name
        Of the model and its file, for the message.

    Raises
    ------
    SetupError
        Another opset, an operator that is not in `OPERATORS`, or weights outside the file.
    """
    opset = _opset(model)
    if opset not in OPSETS:
        raise SetupError(
            f"The graph of {name} has ONNX opset {opset}; {OPSETS[0]} to {OPSETS[-1]} run here.",
            f"Export the network again with opset_version={OPSETS[-2]}.",
        )
    if unknown := sorted(_unknown_operators(model)):
        raise SetupError(
            f"The graph of {name} uses operators that are not known to run on the CPU and by CUDA alike: "
            f"{', '.join(unknown)}.",
            "Export the network again without them, functions and control flow inlined; the converter of `delineate "
            "model import` does.",
        )
    if places := sorted({place for tensor in _tensors(model) if (place := _external_place(tensor)) is not None}):
        outside = any(PurePosixPath(each).is_absolute() or ".." in PurePosixPath(each).parts for each in places)
        where = "outside the model package" if outside else "which no SHA-256 covers"
        raise SetupError(
            f"The graph of {name} keeps weights in another file, {where}: {', '.join(places[:3])}.",
            "Save the graph as one file.",
        )


def refuse_not_half(model: "onnx.ModelProto", name: str) -> None:
    """Refuse a copy in float16 whose weights are of another kind.

    Raises
    ------
    SetupError
        They are.
    """
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    if _FLOAT32 in kinds or _FLOAT16 not in kinds:
        raise SetupError(
            f"A graph of {name} that the manifest lists with precision f16 holds none, or weights in float32 too.",
            "Import the model again.",
        )


def summary(model: "onnx.ModelProto") -> str:
    """Say in a few words what the graph is made of."""
    operators = {node.op_type for node in model.graph.node}
    return f"opset {_opset(model)}, {len(model.graph.node)} nodes of {len(operators)} operators, all allowed"


def refuse_numbers_that_are_none(model: "onnx.ModelProto", name: str) -> str:
    """Look for weights that are no finite numbers; says how many weights there are.

    Raises
    ------
    SetupError
        There are some.
    """
    from onnx import numpy_helper  # noqa: PLC0415 - see above

    count, wrong = 0, []
    for tensor in _tensors(model):
        values = numpy_helper.to_array(tensor)
        count += values.size
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            wrong.append(tensor.name or "a constant")
    if wrong:
        raise SetupError(
            f"The graph of {name} holds weights that are no finite numbers: {', '.join(wrong[:3])}.",
            "Its training or its conversion failed: import the model again.",
        )
    return f"{count} weights, all finite"


def _opset(model: "onnx.ModelProto") -> int:
    """Give the version of the default operator set; 0 where the file imports none."""
    return next((each.version for each in model.opset_import if each.domain in _DEFAULT_DOMAIN), 0)


def _unknown_operators(model: "onnx.ModelProto") -> set[str]:
    functions = {f"the function {each.name}" for each in model.functions}
    return functions | {
        node.op_type if node.domain in _DEFAULT_DOMAIN else f"{node.domain}.{node.op_type}"
        for node in model.graph.node
        if node.domain not in _DEFAULT_DOMAIN or node.op_type not in OPERATORS
    }


def _tensors(model: "onnx.ModelProto") -> Iterator[Any]:
    """Give all that holds numbers; graphs within operators are refused with their operator."""
    yield from model.graph.initializer
    for sparse in model.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            yield from attribute.tensors


def _external_place(tensor: Any) -> str | None:
    """Give where a tensor's numbers lie; None: in the file itself."""
    if tensor.data_location != tensor.EXTERNAL:
        return None
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "(no name)")
