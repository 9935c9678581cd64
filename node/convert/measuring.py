"""What this machine can add to a package that is there: a copy in float16, and how far other ways to compute are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from node.adapters.durable import write_durably
from node.adapters.model_store import MANIFEST, ModelStore
from node.convert.copies import make_copies
from node.convert.manifest import graph_lines, parity_lines
from node.domain.errors import SetupError
from node.inference.golden import Parity
from node.inference.network_tables import GraphFile, WindowedInput
from node.inference.package import parse_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was added to a package, and everything that was measured."""

    folder: Path
    added: tuple[GraphFile, ...]
    parity: tuple[Parity, ...]
    remarks: tuple[str, ...]


def measure(store: ModelStore, name: str) -> Measured:
    """Add to a package's folder and manifest what is not in them yet.

    The manifest, and so the package's digest in results, changes only by what is appended to it.

    Raises
    ------
    SetupError
        There is no such package, it is wrong, its network has no window, or its folder cannot be written to.
    """
    package, folder = store.load(name).package, store.folder_of(name)
    if len(package.networks) > 1:
        raise SetupError(f"{name} has several networks, which are measured at the import alone.", "Import it again.")
    if not isinstance(package.input, WindowedInput):
        raise SetupError(f"The network of {name} has no window, of whose size a patch could be.", "Nothing is needed.")
    try:
        copies = make_copies(folder, package.parts)
        (added,) = copies.graphs
        known = {each.computed_by for each in package.parity}
        # The only one of [[parts]] is the last, which [[parts.graphs]] adds to.
        prefix = "parts." if package.parts[0].name else ""
        lines = [*_appended(prefix, added, [each for each in copies.parity if each.computed_by not in known])]
        if lines:
            text = "\n".join([(folder / MANIFEST).read_text(encoding="utf-8").rstrip("\n"), *lines]) + "\n"
            parse_manifest(text, where=f"{name}/{MANIFEST} with what was measured", known=store.structures)
            write_durably(folder / MANIFEST, text.encode())
    except OSError as error:
        raise SetupError(f"{folder} cannot be written to: {error.strerror}.", "Mend its permissions.") from error
    store.load(name)
    return Measured(folder=folder, added=added, parity=copies.parity, remarks=copies.remarks)


def _appended(prefix: str, graphs: tuple[GraphFile, ...], parity: list[Parity]) -> Iterator[str]:
    for graph in graphs:
        yield from graph_lines(graph, prefix)
    for each in parity:
        yield from parity_lines(each)
