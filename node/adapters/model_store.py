"""Model packages on disk: ``<folder>/<name>/model.toml`` with its graph beside it."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from node.domain.errors import SetupError
from node.inference.package import LoadedPackage, ModelPackage, parse_manifest
from node.inference.structure_table import KnownStructure, parse_structures
from node.resources import shipped

MANIFEST = "model.toml"
STRUCTURES = "structures.toml"


class ModelStore:
    """The model packages in some folders.

    Parameters
    ----------
    folders
        Each holds one folder per package. A folder that does not exist holds none.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    @cached_property
    def structures(self) -> Mapping[str, KnownStructure]:
        """Give the structures that a manifest need only name: ``conf/structures.toml``.

        Raises
        ------
        SetupError
            The table is wrong or cannot be read.
        """
        return parse_structures(_text(shipped("conf") / STRUCTURES), where=f"conf/{STRUCTURES}")

    def names(self) -> tuple[str, ...]:
        """List the packages, sorted, whether or not they can be loaded."""
        return tuple(sorted({manifest.parent.name for folder in self._folders for manifest in _manifests(folder)}))

    def load(self, name: str) -> LoadedPackage:
        """Read a package and verify its graphs.

        Raises
        ------
        SetupError
            There is no such package or more than one, its manifest or the table of structures is wrong, its graph lies
            outside its folder, or the graph has another SHA-256.
        """
        package = self.describe(name)
        folder = self.folder_of(name)
        # No dictionary: two networks may share a file.
        paths = [(graph.precision, _verified(folder, graph.file, graph.sha256)) for graph in package.graphs]
        return LoadedPackage(
            package=package,
            graph_paths=tuple(path for precision, path in paths if precision == "f32"),
            half_paths=tuple(path for precision, path in paths if precision == "f16"),
        )

    def describe(self, name: str) -> ModelPackage:
        """Read what a package says of itself, without its graph.

        Raises
        ------
        SetupError
            There is no such package or more than one, or its manifest or the table of structures is wrong.
        """
        text = _text(self.folder_of(name) / MANIFEST)
        package = parse_manifest(text, where=f"{name}/{MANIFEST}", known=self.structures)
        if package.name != name:
            raise SetupError(
                f"The model package in folder {name!r} calls itself {package.name!r}.",
                "Give the folder and `name` in model.toml the same name.",
            )
        return package

    def golden(self, name: str) -> bytes | None:
        """Read a package's golden test; None where it has none.

        Raises
        ------
        SetupError
            As `describe`, or the file lies outside the package's folder or has another SHA-256.
        """
        golden = self.describe(name).golden
        if golden is None:
            return None
        return _verified(self.folder_of(name), golden.file, golden.sha256).read_bytes()

    def folder_of(self, name: str) -> Path:
        """Give the folder of a package.

        Raises
        ------
        SetupError
            There is no such package or more than one.
        """
        found = [m.parent for folder in self._folders for m in _manifests(folder) if m.parent.name == name]
        if len(found) == 1:
            return found[0]
        if not found:
            there = ", ".join(self.names()) or "none"
            searched = ", ".join(
                f"{folder}{'' if folder.is_dir() else ' (no such folder)'}" for folder in self._folders
            )
            raise SetupError(
                f"There is no model package {name!r} in {searched}; there: {there}.",
                "Correct the name (in the route, or after --model), or put the package into one of node.model_dirs.",
            )
        raise SetupError(
            f"There are {len(found)} model packages {name!r}: {', '.join(str(each) for each in found)}.",
            "Keep one of them.",
        )


def _manifests(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}", "Mend the file or its permissions.") from error


def _confined(folder: Path, file: str) -> Path:
    # The manifest's own check refuses separators; a symbolic link could still lead out.
    path = (folder / file).resolve()
    if path.parent != folder.resolve():
        raise SetupError(f"{folder.name}/{file} leads outside the model package.", "Put the file itself there.")
    return path


def _verified(folder: Path, file: str, sha256: str) -> Path:
    path = _confined(folder, file)
    found = _sha256(path)
    if found != sha256:
        raise SetupError(
            f"{folder.name}/{file} has SHA-256 {found}; the manifest states {sha256}.",
            "Copy the model package again from its source: it is damaged, incomplete or changed.",
        )
    return path


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error}", "Copy the model package again from its source.") from error
