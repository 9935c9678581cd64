"""The model card of an imported package: where it comes from, how it was checked, what a person still has to say."""

from collections.abc import Iterator, Sequence

from node.convert.export import NetworkParity
from node.convert.manifest import Manifest
from node.convert.naming import NamedStructure
from node.convert.parity import TIE, Comparison


def model_card(
    manifest: Manifest,
    networks: Sequence[NetworkParity],
    comparison: Comparison,
    remarks: Sequence[str],
    report: str = "",
) -> str:
    """Give the contents of ``MODEL_CARD.md``; ``report`` is what a training says of itself, in Markdown."""
    return "\n".join(_lines(manifest, networks, comparison, remarks, report)) + "\n"


def _lines(
    manifest: Manifest,
    networks: Sequence[NetworkParity],
    comparison: Comparison,
    remarks: Sequence[str],
    report: str,
) -> Iterator[str]:
    yield from (f"# {manifest.title}", "", f"Package `{manifest.name}`, version {manifest.version}.", "")
    for key in ("originator", "licence", "intended_use", "limits"):
        yield f"- {key.replace('_', ' ').capitalize()}: {getattr(manifest, key)}"
    unmeasured = "How well it contours was not measured here; that belongs to a commissioning with own cases."
    yield from ("", report or unmeasured, "")
    yield from ("## Left to do", "", *[f"- {each}" for each in remarks or ("Nothing.",)], "")
    yield from ("## Origin", "", f"- {manifest.provenance.source}", f"- Made by {manifest.provenance.made_by}")
    yield f"- Made on {manifest.provenance.made_on}"
    for file in manifest.provenance.files:
        yield f"- `{file.file}`, SHA-256 `{file.sha256}`"
    yield from ("", "## Compared with nnU-Net", "")
    yield from _comparison(manifest, networks, comparison)
    yield from ("", "## Structures", "", "| label of the data set | name | values | known |", "|---|---|---|---|")
    yield from (_structure(each) for each in manifest.structures)


def _comparison(manifest: Manifest, networks: Sequence[NetworkParity], comparison: Comparison) -> Iterator[str]:
    exact = [graph for graph in manifest.graphs if graph.precision == "f32"]
    for graph, network in zip(exact, networks, strict=True):
        yield (
            f"- `{graph.file}`: scores of two patches of noise differ from torch's by at most "
            f"{network.largest_difference:.1e} where they vary by {network.deviation:.1e}; "
            f"{network.labels_that_differ} of {network.voxels} labels differ. {network.biases_dropped} biases that a "
            "normalisation subtracts again were dropped."
        )
    yield "- Where it does not say of noise, labels are those of a drawn volume."
    for parity in manifest.parity:
        remark = f" ({parity.remark})" if parity.remark else ""
        yield (
            f"- Labels against {parity.compared_with}: {parity.differing_voxels} of {parity.voxels} voxels "
            f"differ{remark}. Here: {parity.computed_by}."
        )
    yield f"- A tie: the best two scores are closer than {TIE:g} of their standard deviation."
    found = ", ".join(f"{value}: {count}" for value, count in comparison.found.items())
    yield f"- Voxels of each label value in it: {found}."


def _structure(each: NamedStructure) -> str:
    known = "yes" if each.definition is None else "**no**"
    hint = f"; spelt most alike: {each.hint}" if each.hint else ""
    return f"| {each.label} | {each.name} | {', '.join(map(str, each.label_values))} | {known}{hint} |"
