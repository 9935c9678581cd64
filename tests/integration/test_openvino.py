"""Networks run by OpenVINO where that is asked for, wholly, and say what they say on the CPU."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from node.adapters import onnx_openvino
from node.adapters.model_store import ModelStore
from node.adapters.onnx_host import HostWindows
from node.adapters.onnx_session import answers, devices, open_predictor
from node.convert.copies import make_copies
from node.convert.measuring import measure
from node.domain.errors import SetupError
from node.domain.volume import Volume
from node.inference.engine import labels_by_windows
from node.inference.golden import golden_scan
from node.inference.network_tables import Output, Window, WindowedInput
from node.inference.package import LoadedPackage
from node.inference.predictor import WindowRuntime, no_progress
from node.inference.segment import segment
from node.resources import shipped
from tests.builders import grid
from tests.model_packages import NAME
from tests.unit.test_measuring import installed
from tests.windowed import AS_IT_IS, model, saved, u_net, windowed_input

pytestmark = pytest.mark.usefixtures("openvino")

PATCH = (8, 16, 16)
CLASSES = 5
# How far the best two scores of a voxel must lie apart to be no tie, in standard deviations of the scores.
TIE = 1e-4


def package(folder: Path, step: float = 0.5) -> LoadedPackage:
    wanted = windowed_input(PATCH, window=Window(patch=PATCH, step=step, mirror_axes=(2,)))
    return saved(folder, wanted, Output(classes=CLASSES), u_net(PATCH, seed=1), u_net(PATCH, seed=2))


def runtime(loaded: LoadedPackage, device: str) -> WindowRuntime:
    opened = open_predictor(loaded, device, threads=1)  # type: ignore[arg-type]
    assert isinstance(opened, HostWindows)
    return opened


def test_labels_are_those_of_the_cpu_but_for_ties(tmp_path: Path) -> None:
    loaded = package(tmp_path)
    assert isinstance(loaded.package.input, WindowedInput)
    stack = grid(slices=12, rows=30, columns=40, spacing_mm=(3.0, 1.5, 0.8))
    volume = Volume(voxels=np.random.default_rng(5).normal(0, 1, stack.shape).astype(np.float32), grid=stack)

    found = [
        labels_by_windows([volume], loaded.package.input, loaded.package.output, runtime(loaded, device), no_progress)
        for device in ("cpu", "openvino")
    ]

    (by_cpu, _), (by_openvino, _) = found
    assert len(np.unique(by_cpu)) == CLASSES
    assert np.count_nonzero(by_cpu != by_openvino) <= 1e-4 * by_cpu.size


def test_a_patch_has_the_same_label_wherever_it_is_no_tie(tmp_path: Path) -> None:
    path = package(tmp_path).graph_paths[0]
    noise = np.random.default_rng(6).standard_normal((1, 1, *PATCH)).astype(np.float32)

    by_cpu, _ = answers(path, noise)
    by_openvino, computed_by = answers(path, noise, "openvino")

    second, best = np.partition(by_cpu, -2, axis=1)[:, -2:].swapaxes(0, 1)
    clear = best - second > TIE * by_cpu.std()
    assert clear.mean() > 0.99
    assert (by_cpu.argmax(axis=1) == by_openvino.argmax(axis=1))[clear].all()
    assert computed_by.startswith("OpenVINOExecutionProvider, float32, onnxruntime-ep-openvino 1.8.")


def test_the_model_that_comes_with_it_passes_its_golden_test() -> None:
    store = ModelStore([shipped("models")])
    loaded, file = store.load("body-bones"), store.golden("body-bones")
    assert loaded.package.golden is not None
    assert file is not None
    scan = golden_scan(file, loaded.package.golden)

    found = segment(scan.volumes[0], loaded.package, open_predictor(loaded, "openvino", threads=1), no_progress)

    differing = np.count_nonzero(found.label_map.labels != scan.labels)
    assert differing <= loaded.package.golden.differing_voxels
    assert found.computed_by.startswith("OpenVINOExecutionProvider, float32, ")


def test_a_result_says_what_was_measured(tmp_path: Path) -> None:
    loaded = package(tmp_path)

    copies = make_copies(tmp_path, loaded.package.parts)

    by_openvino = copies.parity[-1]
    assert by_openvino.computed_by.startswith("OpenVINOExecutionProvider, float32, onnxruntime-ep-openvino 1.8.")
    assert by_openvino.voxels == 2 * 2 * 8 * 16 * 16
    assert by_openvino.differing_voxels <= 1e-3 * by_openvino.voxels
    unmeasured = runtime(loaded, "openvino").computed_by
    assert unmeasured.endswith(" (how many labels differ was not measured)")
    measured = replace(loaded, package=replace(loaded.package, parity=copies.parity))
    expected = (
        f" ({by_openvino.differing_voxels} of {by_openvino.voxels} labels of noise differ from CPUExecutionProvider's)"
    )
    assert runtime(measured, "openvino").computed_by.endswith(expected)


def test_a_package_of_another_machine_gets_what_is_measured_on_this_one(tmp_path: Path) -> None:
    store = installed(tmp_path)

    measured = measure(store, NAME)

    package = store.load(NAME).package
    assert [each.computed_by.partition(",")[0] for each in package.parity] == ["float16", "OpenVINOExecutionProvider"]
    assert package.parity == measured.parity


def test_a_network_that_does_not_run_there_as_a_whole_is_refused(tmp_path: Path) -> None:
    # OpenVINO samples planes alone; ONNX Runtime's own provider would take this over.
    places = numpy_helper.from_array(np.zeros((1, *PATCH, 3), dtype=np.float32), "places")
    network = model([helper.make_node("GridSample", ["image", "places"], ["scores"])], [places], (2, 2), PATCH)
    network.opset_import[0].version = 20
    loaded = saved(tmp_path, windowed_input(PATCH, channels=(AS_IT_IS, AS_IT_IS)), Output(classes=2), network)
    assert open_predictor(loaded, "cpu", threads=1)

    with pytest.raises(SetupError, match="OpenVINO cannot be used: the network of two-densities does not run there"):
        open_predictor(loaded, "openvino", threads=1)


def test_bfloat16_is_refused_without_amx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags : fpu avx512f avx512_bf16 amx_tile\n")
    monkeypatch.setattr(onnx_openvino, "CPU_INFO", flags)

    with pytest.raises(SetupError, match=r"this CPU has no AMX for bfloat16 \(amx_bf16\)") as refused:
        open_predictor(package(tmp_path), "openvino", threads=1, precision="bf16")

    assert refused.value.remedy == 'Set node.precision to "f32".'


def test_bfloat16_is_taken_with_amx_and_the_result_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tmp_path / "cpuinfo"
    flags.write_text("flags : fpu avx512f avx512_bf16 amx_tile amx_bf16\n")
    monkeypatch.setattr(onnx_openvino, "CPU_INFO", flags)

    opened = open_predictor(package(tmp_path), "openvino", threads=1, precision="bf16")

    assert opened.computed_by.startswith("OpenVINOExecutionProvider, bfloat16, onnxruntime-ep-openvino 1.8.")


def test_the_device_is_told_with_its_version() -> None:
    openvino = devices()[-1]

    assert (openvino.name, openvino.usable) == ("openvino", True)
    assert "onnxruntime-ep-openvino 1.8." in openvino.detail


def test_openvino_writes_nothing_and_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "TMPDIR"), str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "a").mkdir()
    path = package(tmp_path / "a").graph_paths[0]
    program = (
        "import sys, numpy; from pathlib import Path; from node.adapters.onnx_session import answers; "
        f"answers(Path(sys.argv[1]), numpy.zeros((1, 1, *{PATCH}), numpy.float32), 'openvino')"
    )
    environment = {**os.environ, **places, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=True)

    assert list((tmp_path / "home").rglob("*")) == []
    assert capfd.readouterr() == ("", "")
