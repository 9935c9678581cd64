"""What ``delineate model`` prints: packages, one package, and what is wrong with one."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.adapters.model_store import MANIFEST, ModelStore
from node.adapters.onnx_file import read_graph, refuse_unfit
from node.adapters.onnx_memory import bytes_at_work, free_host_bytes, whole_room
from node.adapters.onnx_session import CPU_LABEL_VALUES
from node.adapters.package_check import size_of
from node.commands import print_finding, print_json
from node.domain.errors import NodeError, SetupError
from node.inference.devices import DeviceName
from node.inference.golden import Parity
from node.inference.memory import USUAL_SCAN, USUAL_SCAN_WORDS, bytes_for
from node.inference.network_tables import Channel, InputSpecification, WindowedInput
from node.inference.package import Gate, KeepLargest, LoadedPackage, ModelPackage, PostRule
from node.inference.parts import CropModel
from node.inference.predictor import Room
from node.log import silence
from node.model_checkup import verify
from node.opening import model_store

CARD = "MODEL_CARD.md"


def list_command(model_dirs: Sequence[Path], console: Console | None) -> int:
    """List the packages. Gives the exit status: 1 where one cannot be loaded."""
    silence()
    store = model_store(model_dirs)
    told = [_listed(store, name) for name in store.names()]
    if console is None:
        print_json(told)
    else:
        _print_list(told, console)
    return 0 if all(one["loadable"] for one in told) else 1


def show_command(name: str, model_dirs: Sequence[Path], console: Console | None) -> int:
    """Show one package. Gives the exit status."""
    silence()
    store = model_store(model_dirs)
    package, folder = store.describe(name), store.folder_of(name)
    memory = _memory(store, name)
    if console is None:
        card = folder / CARD
        more = {"folder": folder, "card": card if card.is_file() else None, "size_bytes": size_of(folder)}
        print_json(asdict(package) | more | {"memory": memory})
    else:
        for title, lines in _chapters(package, folder, memory):
            console.print(f"[bold]{escape(title)}[/]", highlight=False)
            for line in lines:
                console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    return 0


def verify_command(
    name: str, model_dirs: Sequence[Path], device: DeviceName, threads: int, console: Console | None
) -> int:
    """Verify a package, named or by its folder. Gives the exit status."""
    silence()
    store, name = _store_and_name(name, model_dirs)
    findings = []
    for finding in verify(store, name, device, threads or None):
        findings.append(finding)
        if console is not None:
            print_finding(finding, console)
    if console is None:
        print_json([asdict(finding) for finding in findings])
    return 0 if all(finding.holds for finding in findings) else 1


def measure_command(name: str, model_dirs: Sequence[Path], console: Console | None) -> int:
    """Add to a package what this machine can. Gives the exit status."""
    from node.convert.measuring import measure  # noqa: PLC0415 - the other commands read no network in full

    silence()
    store, name = _store_and_name(name, model_dirs)
    measured = measure(store, name)
    if console is None:
        print_json(asdict(measured))
        return 0
    for graph in measured.added:
        console.print(f"added {escape(str(measured.folder / graph.file))}", soft_wrap=True, highlight=False)
    for line in (*(_parity(each) for each in measured.parity), *measured.remarks):
        console.print(escape(line), soft_wrap=True, highlight=False)
    return 0


def _store_and_name(name: str, model_dirs: Sequence[Path]) -> tuple[ModelStore, str]:
    """Take what looks like a folder for one: a name holds no separator."""
    folder = Path(name)
    if not (folder / MANIFEST).is_file():
        if "/" in name:
            raise SetupError(f"{name} holds no {MANIFEST}.", "Name a model package, or the folder of one.")
        return model_store(model_dirs), name
    folder = folder.absolute()
    return ModelStore([folder.parent]), folder.name


def _listed(store: ModelStore, name: str) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "version": "", "title": "", "modalities": [], "structures": 0}
    told |= {"parts": [], "region": [], "size_bytes": 0, "loadable": False, "reason": ""}
    try:
        told["size_bytes"] = size_of(store.folder_of(name))
        package = store.describe(name)
        told |= {"version": package.version, "title": package.title}
        told |= {"modalities": list(package.modalities), "structures": len(package.structures)}
        told |= {"parts": [part.name for part in package.parts if part.name]}
        told |= {"region": list(package.crop_model.structures) if package.crop_model else []}
        for path in store.load(name).graph_paths:
            refuse_unfit(read_graph(path), name)
    except NodeError as error:
        return told | {"reason": error.reason}
    return told | {"loadable": True}


def _print_list(told: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "version", "title", "modalities"):
        table.add_column(heading)
    for heading in ("structures", "networks", "size"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for one in told:
        state = "[green]ok[/]" if one["loadable"] else "[bold red]FAIL[/]"
        networks = (len(one["parts"]) or 1) + bool(one["region"])
        texts = [one["name"], one["version"], one["title"], " ".join(one["modalities"])]
        texts += [str(one["structures"]), str(networks) if one["version"] else ""]
        table.add_row(*(escape(text) for text in texts), _size(one["size_bytes"]), state)
    console.print(table, highlight=False)
    for one in told:
        if one["reason"]:
            console.print(f"{escape(one['name'])}: {escape(one['reason'])}", soft_wrap=True, highlight=False)


def _memory(store: ModelStore, name: str) -> str:
    try:
        loaded = store.load(name)
        # Networks run one after the other.
        needed = max(bytes_for(one.package, USUAL_SCAN, _room(one)) for one in loaded.networks)
    except NodeError as error:
        return f"unknown: {error.reason}"
    least = "" if all(isinstance(one.package.input, WindowedInput) for one in loaded.networks) else "at least "
    return f"{least}{needed / 1e9:.1f} GB for a scan of {USUAL_SCAN_WORDS}, on the CPU"


def _room(loaded: LoadedPackage) -> Room:
    if not isinstance(loaded.package.input, WindowedInput):
        return whole_room()
    weights = sum(path.stat().st_size for path in loaded.graph_paths)
    at_work = max(bytes_at_work(path) for path in loaded.graph_paths)
    return Room(host=free_host_bytes(), device=None, network=at_work + weights, label_values=CPU_LABEL_VALUES)


def _chapters(package: ModelPackage, folder: Path, memory: str) -> Iterator[tuple[str, list[str]]]:
    yield (
        f"{package.name} {package.version}",
        [package.title, f"by {package.originator}; licence {package.licence}"],
    )
    yield "Intended use", _paragraph(package.intended_use)
    yield "Limits", _paragraph(package.limits)
    yield "Origin", _origin(package)
    yield "Agreement with what it was made from", [_parity(each) for each in package.parity] or ["not stated"]
    yield from _networks(package)
    yield "Structures", _structures(package)
    if package.post:
        yield "After the network", [_rule(rule) for rule in package.post]
    if package.gates:
        yield "Left out", [_gate(gate) for gate in package.gates]
    yield "Memory", [memory]
    yield "Files", _files(package, folder)


def _paragraph(text: str) -> list[str]:
    return [" ".join(text.split())]


def _origin(package: ModelPackage) -> list[str]:
    origin = package.provenance
    if origin is None:
        return ["not stated"]
    made = [f"made from {origin.source}", f"by {origin.made_by}, {origin.made_on}"]
    return made + [f"{each.file}, SHA-256 {each.sha256}" for each in origin.files]


def _parity(parity: Parity) -> str:
    share = f"{parity.differing_voxels} of {parity.voxels} voxels differ"
    remark = f"; {parity.remark}" if parity.remark else ""
    return f"{share} from {parity.compared_with}, on {parity.computed_by}{remark}"


def _networks(package: ModelPackage) -> Iterator[tuple[str, list[str]]]:
    modality = f"modality {', '.join(package.modalities)}"
    if package.crop_model is not None:
        yield "Region", [_region(package.crop_model), *_input(package.crop_model.input)]
    for number, part in enumerate(package.parts):
        if not part.name:
            yield "Input", [modality, *_input(part.input)]
            continue
        overrides = f", over those of {package.parts[number - 1].name} and before" if number else ""
        labels = f"labels {_runs([label for label in part.labels if label])}{overrides}"
        yield f"Part {part.name}", [modality, *_input(part.input), labels]


def _region(crop_model: CropModel) -> str:
    margin = " × ".join(f"{each:g}" for each in crop_model.margin_mm)
    return f"the box around {', '.join(crop_model.structures)}, and {margin} mm; found by a network of its own"


def _input(wanted: InputSpecification | WindowedInput) -> list[str]:
    spacing = " × ".join("as it is" if each is None else f"{each:g}" for each in wanted.spacing_mm)
    lines = [f"orientation {wanted.orientation}, spacing {spacing} mm"]
    if isinstance(wanted, InputSpecification):
        runs = "all slices at once" if wanted.slices_at_once is None else f"{wanted.slices_at_once} slices at once"
        return [*lines, f"values {_scale(wanted)}", runs]
    window = wanted.window
    mirrored = f", mirrored along axes {', '.join(map(str, window.mirror_axes))}" if window.mirror_axes else ""
    sides = " × ".join(map(str, window.patch))
    return [
        *lines,
        f"axes in the order {wanted.axis_order}, resampled as {wanted.resample} does, crop {wanted.crop}",
        *(f"channel {number}: {_channel(each)}" for number, each in enumerate(wanted.channels)),
        f"window {sides} voxels, {window.step:g} of it apart{mirrored}",
    ]


def _channel(channel: Channel) -> str:
    if channel.normalisation != "fixed":
        return f"{channel.name}, {channel.normalisation}{' of what is not 0' if channel.masked else ''}"
    return f"{channel.name}, {_scale(channel)}"


def _scale(wanted: InputSpecification | Channel) -> str:
    clip = "" if wanted.clip is None else f"clipped to {wanted.clip[0]:g} to {wanted.clip[1]:g}, "
    if (wanted.mean, wanted.standard_deviation) == (0.0, 1.0):
        return f"{clip}as the scanner gives them"
    return f"{clip}less {wanted.mean:g}, divided by {wanted.standard_deviation:g}"


def _structures(package: ModelPackage) -> list[str]:
    width = max((len(each.name) for each in package.structures), default=0)
    return [
        f"{each.name:<{width}}  #{bytes(each.colour_rgb).hex()}  {each.interpreted_type or '-':<9}  "
        f"{each.type.value} {each.type.scheme} {each.type.meaning}"
        f"{f', {each.modifier.meaning}' if each.modifier else ''}; labels {_numbers(each.label_values)}"
        for each in package.structures
    ]


def _rule(rule: PostRule) -> str:
    more = {key: value for key, value in asdict(rule).items() if key != "labels" and value is not None}
    if isinstance(rule, KeepLargest):
        usual = KeepLargest(labels=rule.labels)
        more = {key: value for key, value in more.items() if value != getattr(usual, key)}
    said = ", ".join(f"{key} {_numbers(value) if isinstance(value, tuple) else value}" for key, value in more.items())
    return f"{rule.rule} of labels {_numbers(rule.labels)}{f': {said}' if said else ''}"


def _gate(gate: Gate) -> str:
    limits = []
    if gate.at_least_cm3 is not None:
        limits.append(f"below {gate.at_least_cm3:g} cm³")
    if gate.at_most_cm3 is not None:
        limits.append(f"above {gate.at_most_cm3:g} cm³")
    if gate.mean_value_between is not None:
        lower, upper = gate.mean_value_between
        limits.append(f"with a mean value outside {lower:g} to {upper:g}")
    return f"{gate.structure} {' or '.join(limits)}: {' '.join(gate.because.split())}"


def _files(package: ModelPackage, folder: Path) -> list[str]:
    card = folder / CARD
    lines = [f"{folder}, {_size(size_of(folder))}"]
    copies = {"f32": "", "f16": " (copy in float16, for CUDA)"}
    lines += [f"{graph.file}{copies[graph.precision]}, SHA-256 {graph.sha256}" for graph in package.graphs]
    if package.golden is not None:
        lines.append(f"{package.golden.file} (golden test), SHA-256 {package.golden.sha256}")
    lines.append(f"{MANIFEST}, SHA-256 {package.digest}: the package's digest in every result")
    return [*lines, f"{card}: read it" if card.is_file() else f"no {CARD}: ask its maker how it was validated"]


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)


def _runs(values: Sequence[int]) -> str:
    """Write runs of consecutive numbers as their first and last."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], value]
        else:
            runs.append([value])
    return ", ".join(" to ".join(map(str, run)) for run in runs)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
