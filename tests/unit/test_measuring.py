"""A package that is there gets what this machine can add to it, once, and loses nothing."""

import hashlib
from pathlib import Path

import pytest

from node.adapters.model_store import ModelStore
from node.convert.measuring import measure
from node.domain.errors import SetupError
from tests.model_packages import NAME, install, install_windowed
from tests.windowed import u_net

SPACING_MM = (3.0, 1.5, 1.25)


def installed(folder: Path) -> ModelStore:
    """Install a package whose network has patches of 8 voxels and 3 classes."""
    package = install_windowed(folder, classes=3, spacing_mm=SPACING_MM)
    network = u_net((8, 8, 8), classes=3).SerializeToString()
    before = hashlib.sha256((package / "graph.onnx").read_bytes()).hexdigest()
    manifest = package / "model.toml"
    manifest.write_text(manifest.read_text().replace(before, hashlib.sha256(network).hexdigest()))
    (package / "graph.onnx").write_bytes(network)
    return ModelStore([folder])


def test_a_package_gets_a_copy_in_float16_and_states_how_far_it_is(tmp_path: Path) -> None:
    store = installed(tmp_path)
    before = (tmp_path / NAME / "model.toml").read_text()

    measured = measure(store, NAME)

    assert [graph.file for graph in measured.added] == ["graph.f16.onnx"]
    loaded = store.load(NAME)
    assert loaded.half_paths == ((tmp_path / NAME / "graph.f16.onnx").resolve(),)
    assert loaded.package.parity == measured.parity
    assert loaded.package.parity[0].voxels == 2 * 8**3
    assert (tmp_path / NAME / "model.toml").read_text().startswith(before.rstrip())


def test_measuring_again_changes_nothing(tmp_path: Path) -> None:
    store = installed(tmp_path)
    measure(store, NAME)
    before = {path.name: path.read_bytes() for path in (tmp_path / NAME).iterdir()}

    measured = measure(store, NAME)

    assert measured.added == ()
    assert {path.name: path.read_bytes() for path in (tmp_path / NAME).iterdir()} == before


def test_the_only_one_of_parts_gets_its_copy(tmp_path: Path) -> None:
    store = installed(tmp_path)
    manifest = tmp_path / NAME / "model.toml"
    text = manifest.read_text().replace("[[graphs]]", '[[parts]]\nname = "all"\nlabels = [1, 2]\n[[parts.graphs]]')
    manifest.write_text(text)

    measure(store, NAME)

    assert [graph.precision for graph in store.load(NAME).package.parts[0].graphs] == ["f32", "f16"]


def test_a_manifest_to_which_nothing_can_be_appended_stays_as_it_is(tmp_path: Path) -> None:
    store = installed(tmp_path)
    manifest = tmp_path / NAME / "model.toml"
    sha256 = hashlib.sha256((tmp_path / NAME / "graph.onnx").read_bytes()).hexdigest()
    text = manifest.read_text().replace(f'[[graphs]]\nfile = "graph.onnx"\nsha256 = "{sha256}"\n', "")
    text = f'graphs = [{{ file = "graph.onnx", sha256 = "{sha256}" }}]\n{text}'
    manifest.write_text(text)

    with pytest.raises(SetupError, match=r"model.toml with what was measured is not valid TOML"):
        measure(store, NAME)

    assert manifest.read_text() == text
    store.load(NAME)


def test_a_network_that_has_no_copy_stays_as_it_is_and_says_why(tmp_path: Path) -> None:
    install_windowed(tmp_path, classes=3, spacing_mm=SPACING_MM)
    before = {path.name: path.read_bytes() for path in (tmp_path / NAME).iterdir()}

    measured = measure(ModelStore([tmp_path]), NAME)

    assert (measured.added, measured.parity) == ((), ())
    assert measured.remarks == ("It does not run in float16: The operators Mul are not known to run in float16.",)
    assert {path.name: path.read_bytes() for path in (tmp_path / NAME).iterdir()} == before


def test_a_network_without_a_window_is_not_measured(tmp_path: Path) -> None:
    install(tmp_path)

    with pytest.raises(SetupError, match="The network of densities has no window"):
        measure(ModelStore([tmp_path]), NAME)
