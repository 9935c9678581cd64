"""Models stay open between jobs, as many as the memory holds."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.adapters import onnx_memory
from node.adapters.model_store import ModelStore
from node.inference.package import LoadedPackage
from node.inference.predictor import HalfFirst, Predictor, Room
from node.warm_models import WarmModels
from tests.model_packages import install
from tests.unit.test_segment import ThresholdNetwork

NAMES = ("a", "b", "c")
LARGE = 1 << 50


class World:
    """Three packages; counts what is opened and closed, and has room for so many open models."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, room_for: int, half: bool = False) -> None:
        for name in NAMES:
            install(folder, replacing=("", "")).rename(folder / name)
            manifest = folder / name / "model.toml"
            manifest.write_text(manifest.read_text().replace('name = "densities"', f'name = "{name}"', 1))
        self.said: list[str] = []
        self.open = WarmModels(ModelStore([folder]), self._opened, self._log)
        self._room_for, self._half = room_for, half
        monkeypatch.setattr(onnx_memory, "whole_room", self._room)

    def _opened(self, loaded: LoadedPackage) -> Predictor | HalfFirst:
        network = ThresholdNetwork()
        return HalfFirst(half=network, exact=lambda: network) if self._half else network

    def _log(self, event: str, **fields: Any) -> None:
        self.said.append(f"{event.removeprefix('model ')} {fields['model']}")

    def _room(self) -> Room:
        free = LARGE if len(self.open._warm) <= self._room_for else 0
        return replace(Room(host=0, device=None, network=0, label_values=0), host=free)


def test_a_model_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, room_for=3)

    models = [world.open(name) for name in "abcabc"]

    assert world.said == ["opened a", "opened b", "opened c"]
    assert models[0] is models[3]


def test_where_memory_is_short_the_one_not_used_for_longest_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, room_for=2)

    for name in "abac":
        world.open(name)

    # The one that is wanted is opened again: only then is it known what an accelerator has free.
    assert world.said == ["opened a", "opened b", "opened c", "closed b", "opened c"]
    assert list(world.open._warm) == ["a", "c"]


@pytest.mark.parametrize("half", [False, True])
def test_one_model_stays_however_short_memory_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool) -> None:
    world = World(tmp_path, monkeypatch, room_for=0, half=half)

    world.open("a")
    world.open("a")
    world.open("b")

    assert world.said == ["opened a", "opened b", "closed a", "opened b"]


@pytest.mark.parametrize("module", ["node.cli", "node.service", "node.commands", "node.status"])
def test_a_process_that_opens_no_network_does_not_wait_for_its_libraries(module: str) -> None:
    program = f"import sys, {module}; print(sorted({{'onnx', 'onnxruntime'}} & {{*sys.modules}}))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_process_that_contours_nothing_does_not_load_what_contouring_needs() -> None:
    program = "import sys, node.service; print(sorted({'scipy', 'cv2', 'highdicom'} & {*sys.modules}))"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
