"""The arithmetic of the benches of inference: who is compared with whom, by which bound, and what is left out."""

import importlib
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHES = Path(__file__).parents[2] / "scripts" / "benches"


@pytest.fixture
def inference(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("inference")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("gpu")


@pytest.fixture
def plain_unet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("inferring.plain_unet")


def figures(inference: ModuleType, pre: float, network: float, post: float, peak_mib: float = 100.0) -> object:
    """One run whose wall time is half its processor time, with labels 0 and 1."""
    cpu_s = {"open": 50.0, "pre": pre, "network": network, "post": post}
    wall_s = {phase: seconds / 2 for phase, seconds in cpu_s.items()}
    run = inference.Run(cpu_s=cpu_s, wall_s=wall_s, peak_mib=peak_mib, added_mib=10.0)
    return inference.Figures(runs=[run], labels=np.array([[[0, 0, 1, 1]]], dtype=np.uint8))


def test_what_lies_beside_a_network_is_held_against_nnunet_without_network_and_opening(inference: ModuleType) -> None:
    case = inference.cases_of("usual", 3)[0][0]
    measured = {
        "ours": figures(inference, 1.0, 70.0, 3.0),
        "nnU-Net": figures(inference, 10.0, 80.0, 40.0),
        "MONAI": figures(inference, 1.0, 80.0, 7.0),
    }

    rows = {(row.name, row.peer_name): row for row in inference.beside_rows(case, measured)}

    beside = rows["25 classes: beside the network, CPU", "nnU-Net"]
    assert (beside.ours, beside.peer, beside.ratio, beside.bound) == (4.0, 50.0, 0.08, 0.1)
    assert rows["25 classes: beside the network, CPU", "MONAI"].bound is None
    assert rows["25 classes: beside the network, wall", "nnU-Net"].ours == 2.0
    assert rows["25 classes: all, CPU", "nnU-Net"].bound is None
    assert rows["25 classes: neighbours of another label", None].ours == pytest.approx(100 / 3)


def test_a_whole_run_is_held_against_nnunet_with_its_network(inference: ModuleType) -> None:
    case = inference.cases_of("usual", 3)[1]
    measured = {"ours": figures(inference, 1.0, 70.0, 3.0, 300.0), "nnU-Net": figures(inference, 10.0, 80.0, 40.0)}

    rows = {row.name: row for row in inference.whole_rows(case, measured)}

    whole, memory = rows["whole run, 25 classes: all, CPU"], rows["whole run, 25 classes: peak memory"]
    assert (whole.ours, whole.peer, whole.bound, whole.holds) == (74.0, 130.0, 0.5, False)
    assert rows["whole run, 25 classes: beside the network, CPU"].bound is None
    assert (memory.ratio, memory.bound, memory.holds) == (3.0, 0.5, False)


def test_labels_are_compared_with_those_of_float32_sums(inference: ModuleType) -> None:
    case = inference.cases_of("usual", 3)[0][0]
    same, other = (figures(inference, 1.0, 1.0, 1.0) for _ in range(2))
    other.labels[0, 0, 0] = 1  # type: ignore[attr-defined]

    rows = inference.beside_rows(case, {"ours": same, "nnU-Net in float32": same, "nnU-Net": other})

    differ = {row.name.rpartition("with ")[2]: row for row in rows if "differ" in row.name}
    assert (differ["float32 sums"].ours, differ["float32 sums"].holds) == (0.0, True)
    assert (differ["float16 sums"].ours, differ["float16 sums"].bound) == (250_000.0, None)


def test_growth_leaves_out_the_image_and_its_labels(inference: ModuleType) -> None:
    few, many = inference.cases_of("usual", 3)[2]
    # 300 and 900 slices of 320 × 320 have 29.3 and 87.9 MiB of labels.
    runs = [
        inference.Run(cpu_s={}, wall_s={}, peak_mib=peak, added_mib=added)
        for peak, added in ((1200.0, 1029.296875), (1600.0, 1137.890625))
    ]

    beside, peak = inference.growth_rows((few, runs[0]), (many, runs[1]))

    assert (beside.peer, beside.ours, beside.bound, beside.holds) == (1000.0, 1050.0, 1.1, True)
    assert (peak.peer, peak.ours, peak.bound) == (1200.0, 1600.0, None)


def test_a_peer_that_the_memory_does_not_suffice_for_is_left_out_and_named(inference: ModuleType) -> None:
    case = inference.cases_of("full", 3)[0][1]

    left, notes = inference.affordable(case, 30e9)

    # 117 classes: 21 million voxels at 1.5 mm by 10 bytes, 79 million at the scan's own by 2.
    assert left.repetitions.keys() == {"ours", "softmax"}
    assert notes[0] == "nnU-Net with 117 classes on 512×512×300 wants 45 GB, of which 30 GB are free: left out."
    assert len(notes) == 2


def test_everything_is_affordable_as_it_is_measured_usually(inference: ModuleType) -> None:
    beside, whole, growth = inference.cases_of("usual", 3)

    assert all(inference.affordable(case, 9e9) == (case, []) for case in (*beside, whole, *growth))


def test_the_network_of_the_gpu_has_the_size_of_nnunets(plain_unet: ModuleType) -> None:
    model = plain_unet.plain_unet((32, 64, 128, 256, 320, 320), 25, (128, 128, 128))

    operators = Counter(node.op_type for node in model.graph.node)
    weights = sum(int(np.prod(each.dims)) for each in model.graph.initializer)
    # Two convolutions in each of six stages down and five up, and the last; one upsampling and one joining for each up.
    assert operators == {
        "Conv": 23,
        "InstanceNormalization": 22,
        "LeakyRelu": 22,
        "ConvTranspose": 5,
        "Concat": 5,
    }
    # As counted of nnU-Net's own: 31.2 million weights, 958 billion operations for 128³ voxels and 25 classes.
    assert round(weights / 1e6, 1) == 31.2
    assert round(2 * plain_unet.multiplications(model) / 1e9) == 958


def test_in_float16_only_the_ends_of_the_network_are_float32(plain_unet: ModuleType) -> None:
    model = plain_unet.plain_unet((4, 8), 3, (16, 16, 16), "float16")

    assert {each.data_type for each in model.graph.initializer} == {10}
    assert [model.graph.node[end].op_type for end in (0, -1)] == ["Cast", "Cast"]
    assert [end.type.tensor_type.elem_type for end in (*model.graph.input, *model.graph.output)] == [1, 1]


def test_multiplications_are_counted_as_by_hand(plain_unet: ModuleType) -> None:
    model = plain_unet.plain_unet((2, 3), 5, (4, 4, 4))

    # Down: 64 voxels by 27 · (1·2 + 2·2), 8 voxels by 27 · (2·3 + 3·3); up: 64 by 3·2, by 27 · (4·2 + 2·2), by 2·5.
    assert plain_unet.multiplications(model) == 64 * 27 * 6 + 8 * 27 * 15 + 64 * 6 + 64 * 27 * 12 + 64 * 10


def test_a_whole_run_on_a_gpu_is_held_against_its_network_alone(gpu: ModuleType) -> None:
    laps = [
        {"open": 2.0, "pre": 0.5, "network": 3.0, "post": 0.5},
        {"open": 0.0, "pre": 0.1, "network": 0.8, "post": 0.02},
    ]
    run = gpu.Run(laps=laps, patches=8, patch_s=[0.1, 0.2, 0.1], device_mib=2000.0, computed_by="CUDA")

    rows = gpu.rows_of("organs", run, 1.0, 1.15)

    assert (rows[0].ours, rows[0].bound, rows[0].holds) == (pytest.approx(0.92), 1.0, True)
    assert (rows[1].peer, rows[1].peer_name) == (pytest.approx(0.8), "network alone")
    assert (rows[1].ratio, rows[1].bound, rows[1].holds) == (pytest.approx(1.15), 1.15, True)
    seconds = {row.name.removeprefix("organs: "): row.ours for row in rows[2:]}
    assert seconds == {
        "of it network, 8 patches": pytest.approx(0.8),
        "of it all else": pytest.approx(0.12),
        "opening and first run": pytest.approx(6.0),
        "of it opening": pytest.approx(2.0),
        "peak device memory": 2000.0,
    }


def test_without_a_gpu_the_bench_gives_no_figure(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "cuda_not_usable_because", lambda: "there is no NVIDIA driver (libcuda.so.1)")
    monkeypatch.setattr("sys.argv", ["gpu.py"])

    status = gpu.main()

    said = capsys.readouterr()
    assert status == 2
    assert said.out == ""
    assert "there is no NVIDIA driver" in said.err
    assert "the extra `cuda`" in said.err


def test_on_the_processor_the_bench_of_the_gpu_promises_nothing(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "bench.json"
    monkeypatch.setattr("sys.argv", ["gpu.py", "--provider", "cpu", "--repetitions", "1", "--json", str(results)])

    status = gpu.main()

    rows = json.loads(results.read_text(encoding="utf-8"))
    assert status == 0
    assert "Inference on the CPU: no GPU, nothing is promised" in capsys.readouterr().out
    assert {row["bound"] for row in rows} == {None}
    assert all(row["ours"] > 0 for row in rows)


def test_openvino_is_measured_where_there_is_amx_and_held_against_nnunet(inference: ModuleType) -> None:
    case = inference.cases_of("usual", 3)[1]
    engines = {"ours": (1.0, 70.0, 3.0), "OpenVINO": (1.0, 20.0, 3.0), "nnU-Net": (10.0, 80.0, 40.0)}
    measured = {name: figures(inference, *seconds) for name, seconds in engines.items()}

    last = inference.whole_rows(case, measured)[-1]

    assert (last.ours, last.peer, last.bound, last.holds) == (24.0, 130.0, 0.2, True)
    assert "no AMX" in inference.openvino_left_out("flags\t\t: fpu avx512f avx512_bf16 bmi1\n")
    assert "no AMX" not in (inference.openvino_left_out("flags\t\t: fpu amx_bf16 avx512f\n") or "")


def test_errors_of_measures_are_in_percent_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES))
    bench = importlib.import_module("evaluate")
    pairs = bench.every()[:1]
    truth = pairs[0].truth
    off = {measure: value * 1.1 for measure, value in truth.items()}

    rows = bench.rows_of(pairs, bench.ours(pairs), {"tool": {pairs[0].name: {"hd95_mm": off["hd95_mm"]}}})

    theirs = {row.name.partition(",")[0]: row.peer for row in rows if row.peer_name == "tool"}
    own = {row.name.partition(",")[0]: row for row in rows if row.peer_name is None}
    assert theirs == {"HD95": pytest.approx(10.0)}
    assert own["HD95"].ours == pytest.approx(0, abs=1e-4)
    assert own["mean surface distance"].bound == 3.0
    assert own["surface Dice"].holds
    # Of surface Dice it is the difference, in hundredths.
    assert bench.error("surface_dice", 0.7, 0.75) == pytest.approx(5)
