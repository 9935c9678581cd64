"""Networks run where we say, and a network that we cannot run is refused before it runs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from node.adapters.onnx_session import (
    HALF_ROUNDED,
    PROBE_GRAPH,
    OnnxPredictor,
    _Device,
    _opened_in_half,
    cuda_not_usable_because,
    devices,
    open_predictor,
)
from node.convert.copies import half_copy
from node.domain.errors import ResourceError, SetupError
from node.inference.devices import DeviceName, Precision
from node.inference.golden import Parity
from node.inference.network_tables import Output
from node.inference.package import LoadedPackage
from node.inference.predictor import HalfFirst
from tests import windowed
from tests.unit.test_segment import PACKAGE
from tests.windowed import thresholds

needs_no_cuda = pytest.mark.skipif(cuda_not_usable_because() is None, reason="CUDA is usable here")
needs_cuda = pytest.mark.skipif(cuda_not_usable_because() is not None, reason="CUDA is not usable here")


def doubling(classes: int = 3, opset: int = 18, rank: int = 5) -> onnx.ModelProto:
    """Make a network whose score of class n is n times its input."""
    factors = np.arange(classes, dtype=np.float32).reshape(1, classes, *[1] * (rank - 2))
    dimensions = ["s", "r", "c"][: rank - 2]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["hu", "factors"], ["scores"])],
        "doubling",
        [helper.make_tensor_value_info("hu", TensorProto.FLOAT, [1, 1, *dimensions])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, classes, *dimensions])],
        [numpy_helper.from_array(factors, "factors")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(folder: Path, model: onnx.ModelProto | bytes) -> LoadedPackage:
    path = folder / "graph.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return LoadedPackage(package=PACKAGE, graph_paths=(path,))


def opened(loaded: LoadedPackage) -> OnnxPredictor:
    predictor = open_predictor(loaded, "cpu", threads=1)
    assert isinstance(predictor, OnnxPredictor)
    return predictor


def test_a_network_runs_on_the_cpu_and_says_so(tmp_path: Path) -> None:
    predictor = opened(saved(tmp_path, doubling()))
    values = np.arange(24, dtype=np.float32).reshape(1, 1, 2, 3, 4)

    scores = predictor.predict(values)

    np.testing.assert_array_equal(scores, np.concatenate([0 * values, values, 2 * values], axis=1))
    assert predictor.computed_by == f"CPUExecutionProvider, float32, onnxruntime {ort.__version__}"


@needs_no_cuda
def test_cuda_is_refused_where_it_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="CUDA cannot be used: ") as refused:
        open_predictor(saved(tmp_path, doubling()), "cuda")

    assert "scripts/setup cuda" in refused.value.remedy


@needs_no_cuda
def test_auto_takes_the_cpu_on_purpose_and_says_why(tmp_path: Path) -> None:
    predictor = open_predictor(saved(tmp_path, doubling()), "auto", threads=1)

    assert isinstance(predictor, OnnxPredictor)
    assert predictor.computed_by.startswith("CPUExecutionProvider (auto: CUDA not usable: ")
    assert predictor.predict(np.ones((1, 1, 1, 1, 1), dtype=np.float32)).ravel().tolist() == [0.0, 1.0, 2.0]


@needs_cuda
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_network_runs_by_cuda_and_says_so(tmp_path: Path, device: str) -> None:
    predictor = open_predictor(saved(tmp_path, doubling()), device)  # type: ignore[arg-type]

    assert isinstance(predictor, OnnxPredictor)
    assert predictor.computed_by.startswith("CUDAExecutionProvider, float32")
    assert predictor.predict(np.ones((1, 1, 1, 1, 1), dtype=np.float32)).ravel().tolist() == [0.0, 1.0, 2.0]


@needs_no_cuda
def test_looking_for_a_gpu_in_vain_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_predictor(saved(tmp_path, doubling()), "auto", threads=1)
    devices()

    assert capfd.readouterr() == ("", "")


def test_devices_name_the_cpu_and_the_gpu_with_the_reason() -> None:
    cpu, gpu, _ = devices()

    assert (cpu.name, cpu.usable) == ("cpu", True)
    assert gpu.name == "cuda:0"
    assert gpu.usable is (cuda_not_usable_because() is None)
    assert gpu.detail


def test_openvino_without_its_extra_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="the package onnxruntime-ep-openvino is not installed") as refused:
        open_predictor(saved(tmp_path, doubling()), "openvino")

    assert "Install the extra `openvino`" in refused.value.remedy
    assert devices()[-1].detail == "the package onnxruntime-ep-openvino is not installed"


@pytest.mark.parametrize(("device", "precision"), [("cpu", "f16"), ("auto", "tf32"), ("openvino", "f16")])
def test_a_precision_that_the_device_does_not_compute_in_is_refused(
    tmp_path: Path, device: DeviceName, precision: Precision
) -> None:
    with pytest.raises(SetupError, match=f"The precision '{precision}' needs device = 'cuda', not '{device}'"):
        open_predictor(saved(tmp_path, doubling()), device, precision=precision)


# Only CUDA computes in float16; what is opened when is the same on the CPU.
HALF = _Device(threads=1, precision="f16")


def with_copy(folder: Path) -> LoadedPackage:
    network = thresholds((1, 1, 1))
    paths = [folder / "graph.onnx", folder / "copy.onnx"]
    for path, model in zip(paths, (network, half_copy(network)), strict=True):
        path.write_bytes(model.SerializeToString())
    return LoadedPackage(package=PACKAGE, graph_paths=tuple(paths[:1]), half_paths=tuple(paths[1:]))


def test_of_what_was_measured_again_a_result_says_the_last(tmp_path: Path) -> None:
    before, last = (
        Parity(
            compared_with=f"CPUExecutionProvider, float32, onnxruntime {version}",
            computed_by=f"{HALF_ROUNDED} CPUExecutionProvider, float32, onnxruntime {version}",
            voxels=1000,
            differing_voxels=differing,
        )
        for version, differing in (("1.31.0", 7), ("1.32.0", 2))
    )
    loaded = with_copy(tmp_path)
    loaded = replace(loaded, package=replace(loaded.package, parity=(before, last)))

    opened = _opened_in_half(loaded, HALF, "refuse")

    assert opened.computed_by.endswith(" (2 of 1000 labels of noise differ from CPUExecutionProvider's)")


def test_a_copy_in_float16_runs_first_and_the_network_where_a_score_is_no_finite_number(tmp_path: Path) -> None:
    loaded = with_copy(tmp_path)

    opened = _opened_in_half(loaded, HALF, "rerun")

    assert isinstance(opened, HalfFirst)
    assert opened.computed_by == (
        f"CPUExecutionProvider, float16, onnxruntime {ort.__version__} (how many labels differ was not measured)"
    )
    exact = opened.exact()
    assert exact is opened.exact()
    assert exact.computed_by == (
        f"CPUExecutionProvider (again: in float16 a score was no finite number), float32, onnxruntime {ort.__version__}"
    )


def test_a_copy_in_float16_runs_alone_where_nothing_is_to_run_again(tmp_path: Path) -> None:
    assert isinstance(_opened_in_half(with_copy(tmp_path), HALF, "refuse"), OnnxPredictor)


def test_a_file_that_is_no_copy_in_float16_does_not_run_as_one(tmp_path: Path) -> None:
    loaded = with_copy(tmp_path)

    with pytest.raises(SetupError, match="lists with precision f16 holds none"):
        _opened_in_half(replace(loaded, half_paths=loaded.graph_paths), HALF, "rerun")


def test_a_package_without_a_copy_in_float16_runs_in_float32_and_says_why(tmp_path: Path) -> None:
    opened = _opened_in_half(saved(tmp_path, doubling()), HALF, "rerun")

    expected = f"CPUExecutionProvider (the package has no copy in float16), float32, onnxruntime {ort.__version__}"
    assert opened.computed_by == expected


@needs_cuda
@pytest.mark.parametrize(("precision", "said"), [("f32", "float32"), ("tf32", "TF32"), ("f16", "float16")])
def test_a_network_runs_by_cuda_in_each_precision_and_says_so(tmp_path: Path, precision: Precision, said: str) -> None:
    patch = (16, 16, 16)
    loaded = windowed.saved(tmp_path, windowed.windowed_input(patch), Output(classes=5), windowed.u_net(patch))
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(half_copy(windowed.u_net(patch)).SerializeToString())

    opened = open_predictor(replace(loaded, half_paths=(copy,)), "cuda", precision=precision)

    assert opened.computed_by.startswith(f"CUDAExecutionProvider, {said}, onnxruntime ")


def test_a_gpu_number_that_does_not_exist_is_no_gpu() -> None:
    assert cuda_not_usable_because(device_id=99) is not None


def test_the_probe_is_what_it_says() -> None:
    model = onnx.load_from_string(PROBE_GRAPH)

    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Relu"]
    assert model.opset_import[0].version == 18


@pytest.mark.parametrize("opset", [17, 22])
def test_an_operator_set_without_all_cuda_kernels_is_refused(tmp_path: Path, opset: int) -> None:
    with pytest.raises(SetupError, match=f"has ONNX opset {opset}; 18 to 21 run here") as refused:
        open_predictor(saved(tmp_path, doubling(opset=opset)), "cpu")

    assert refused.value.remedy == "Export the network again with opset_version=20."


@pytest.mark.parametrize("opset", [18, 21])
def test_operator_sets_at_both_ends_are_run(tmp_path: Path, opset: int) -> None:
    assert open_predictor(saved(tmp_path, doubling(opset=opset)), "cpu", threads=1)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    onnx.save_model(doubling(), path, save_as_external_data=True, size_threshold=0, location="weights.bin")

    with pytest.raises(SetupError, match="keeps weights in another file"):
        open_predictor(LoadedPackage(package=PACKAGE, graph_paths=(path,)), "cpu")


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"\x0a\x7fshort", b"\x0b", b"PK\x03\x04 a zip file"])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SetupError, match="is no ONNX model"):
        open_predictor(saved(tmp_path, content), "cpu")


def test_a_graph_with_an_unknown_operator_is_refused(tmp_path: Path) -> None:
    model = doubling()
    model.graph.node[0].op_type = "Contour"

    with pytest.raises(SetupError, match=r"operators that are not known to run .*: Contour"):
        open_predictor(saved(tmp_path, model), "cpu")


@pytest.mark.parametrize("model", [doubling(classes=2), doubling(rank=4)])
def test_a_graph_with_other_ends_than_the_manifest_says_is_refused(tmp_path: Path, model: onnx.ModelProto) -> None:
    with pytest.raises(SetupError, match="must take one float32 tensor"):
        open_predictor(saved(tmp_path, model), "cpu")


def test_an_input_that_the_network_cannot_compute_is_the_packages_fault(tmp_path: Path) -> None:
    predictor = opened(saved(tmp_path, doubling()))

    with pytest.raises(SetupError, match=r"cannot compute an input of shape \(1, 2, 1, 1, 1\)"):
        predictor.predict(np.ones((1, 2, 1, 1, 1), dtype=np.float32))


def test_too_little_memory_is_this_machines_turn(tmp_path: Path) -> None:
    # 3 · 2^45 values of 4 bytes are more than a process can address.
    model = doubling()
    shape = numpy_helper.from_array(np.array([1, 3, 1 << 15, 1 << 15, 1 << 15], dtype=np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node[0].output[0] = "small"
    model.graph.node.append(helper.make_node("Expand", ["small", "shape"], ["scores"]))
    for axis, name in enumerate("xyz", start=2):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
    predictor = opened(saved(tmp_path, model))

    with pytest.raises(ResourceError, match="The memory does not suffice for two-densities"):
        predictor.predict(np.ones((1, 1, 1, 1, 1), dtype=np.float32))


def test_the_opset_is_that_of_the_default_domain(tmp_path: Path) -> None:
    model = doubling(opset=20)
    model.opset_import.insert(0, helper.make_opsetid("com.microsoft", 1))

    assert open_predictor(saved(tmp_path, model), "cpu", threads=1)
    with pytest.raises(SetupError, match="has ONNX opset 0"):
        open_predictor(saved(tmp_path, b""), "cpu")


def test_onnx_runtime_sends_nothing_home_and_keeps_no_record_of_its_use(tmp_path: Path) -> None:
    # Its telemetry makes an identifier and a database of events as soon as it is imported.
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path))
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | places

    subprocess.run([sys.executable, "-c", "import node.adapters.onnx_session"], env=environment, check=True)

    assert list(tmp_path.rglob("*")) == []
