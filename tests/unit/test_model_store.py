"""A package is loaded whole, verified, from its own folder; anything else is said by name."""

import hashlib
from pathlib import Path

import pytest

from node.adapters.model_store import ModelStore
from node.domain.errors import SetupError
from tests.model_packages import install_parts
from tests.unit.test_package import MANIFEST

GRAPH = b"a graph"


def install(folder: Path, name: str = "liver-ct", manifest: str | None = None) -> Path:
    """Write a package whose graph has the SHA-256 that its manifest states."""
    package = folder / name
    package.mkdir(parents=True)
    text = MANIFEST.replace("0f" * 32, hashlib.sha256(GRAPH).hexdigest())
    (package / "model.toml").write_text(text if manifest is None else manifest)
    (package / "graph.onnx").write_bytes(GRAPH)
    return package


def test_packages_of_all_folders_are_listed(tmp_path: Path) -> None:
    install(tmp_path / "ours", "liver-ct")
    install(tmp_path / "theirs", "brain-mr")
    (tmp_path / "theirs" / "no-package").mkdir()

    store = ModelStore([tmp_path / "ours", tmp_path / "theirs", tmp_path / "absent"])

    assert store.names() == ("brain-mr", "liver-ct")


def test_a_verified_package_is_loaded(tmp_path: Path) -> None:
    package = install(tmp_path)

    loaded = ModelStore([tmp_path]).load("liver-ct")

    assert loaded.package.title == "Liver"
    assert loaded.graph_paths == (package.resolve() / "graph.onnx",)


def test_a_changed_graph_is_refused(tmp_path: Path) -> None:
    (install(tmp_path) / "graph.onnx").write_bytes(GRAPH + b"!")

    with pytest.raises(SetupError, match=r"liver-ct/graph\.onnx has SHA-256 .*; the manifest states"):
        ModelStore([tmp_path]).load("liver-ct")


def test_a_copy_in_float16_is_verified_as_the_network_is(tmp_path: Path) -> None:
    package = install(tmp_path)
    copy = f'[[graphs]]\nfile = "copy.onnx"\nsha256 = "{hashlib.sha256(b"a copy").hexdigest()}"\nprecision = "f16"\n'
    with (package / "model.toml").open("a") as manifest:
        manifest.write(copy)
    (package / "copy.onnx").write_bytes(b"a copy")

    loaded = ModelStore([tmp_path]).load("liver-ct")

    assert loaded.graph_paths == (package.resolve() / "graph.onnx",)
    assert loaded.half_paths == (package.resolve() / "copy.onnx",)
    (package / "copy.onnx").write_bytes(b"another")
    with pytest.raises(SetupError, match=r"liver-ct/copy\.onnx has SHA-256 "):
        ModelStore([tmp_path]).load("liver-ct")


def test_networks_that_share_a_file_have_it_each(tmp_path: Path) -> None:
    package = install_parts(tmp_path)
    manifest = package / "model.toml"
    manifest.write_text(manifest.read_text().replace('"coarse.onnx"', '"graph.onnx"'))

    networks = ModelStore([tmp_path]).load(package.name).networks

    assert [path.name for one in networks for path in one.graph_paths] == ["graph.onnx", "graph.onnx", "liver.onnx"]


def test_a_missing_graph_is_refused(tmp_path: Path) -> None:
    (install(tmp_path) / "graph.onnx").unlink()

    with pytest.raises(SetupError, match="cannot be read"):
        ModelStore([tmp_path]).load("liver-ct")


def test_a_graph_that_a_link_takes_from_elsewhere_is_refused(tmp_path: Path) -> None:
    package = install(tmp_path / "models")
    (package / "graph.onnx").rename(tmp_path / "graph.onnx")
    (package / "graph.onnx").symlink_to(tmp_path / "graph.onnx")

    with pytest.raises(SetupError, match="leads outside the model package"):
        ModelStore([tmp_path / "models"]).load("liver-ct")


def test_an_unknown_package_is_answered_with_those_there_are(tmp_path: Path) -> None:
    install(tmp_path)

    with pytest.raises(SetupError, match=r"no model package 'lung-ct' in .*; there: liver-ct\."):
        ModelStore([tmp_path]).load("lung-ct")


def test_no_package_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"there: none\."):
        ModelStore([tmp_path]).load("lung-ct")


def test_two_packages_of_one_name_are_refused(tmp_path: Path) -> None:
    install(tmp_path / "ours")
    install(tmp_path / "theirs")

    with pytest.raises(SetupError, match="There are 2 model packages 'liver-ct'"):
        ModelStore([tmp_path / "ours", tmp_path / "theirs"]).load("liver-ct")


def test_a_package_that_calls_itself_otherwise_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "lung-ct")

    with pytest.raises(SetupError, match="in folder 'lung-ct' calls itself 'liver-ct'"):
        ModelStore([tmp_path]).load("lung-ct")


def test_a_wrong_manifest_is_said_with_its_place(tmp_path: Path) -> None:
    install(tmp_path, manifest="colour = 3")

    with pytest.raises(SetupError, match=r"liver-ct/model\.toml: colour is unknown"):
        ModelStore([tmp_path]).load("liver-ct")


def test_a_manifest_that_is_no_text_is_said_with_its_place(tmp_path: Path) -> None:
    (install(tmp_path) / "model.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(SetupError, match=r"model\.toml cannot be read"):
        ModelStore([tmp_path]).load("liver-ct")
