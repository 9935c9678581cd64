"""What the commands print: the join between the command line and what it calls."""

import difflib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from node import DISCLAIMER
from node.adapters.dicom_files import Skipped
from node.config import Config
from node.dicom.headers import ROUTING_KEYWORDS
from node.domain.errors import SetupError
from node.domain.forms import Form
from node.domain.instance import ReceivedInstance
from node.domain.routing import Accepted, Declined, OutputKind, Route, RouteChannel, RouteCheck, decide
from node.domain.series import Complete, CompletionPolicy, Stalled
from node.inference.devices import DeviceName
from node.inference.predictor import Progress as ProgressFunction
from node.log import silence
from node.offline import OfflineResult, Order, SeriesResult, collect, contour_files, judge
from node.opening import model_store
from node.stages.contour import OpenModel

if TYPE_CHECKING:
    from node.checkup import Finding


def contour_command(  # noqa: PLR0913 - one for each option
    inputs: Sequence[Path],
    output: Path,
    *,
    models: Sequence[str],
    outputs: Sequence[OutputKind],
    form: Form,
    device: DeviceName,
    threads: int,
    model_dirs: Sequence[Path],
    console: Console | None,
    channels: Sequence[RouteChannel] = (),
) -> int:
    """Contour files and tell what became of them; JSON where there is no console. Gives the exit status."""
    from node.adapters.onnx_session import open_predictor  # noqa: PLC0415 - spares the other commands ONNX Runtime

    silence()
    _check_inputs(inputs, output)
    store = model_store(model_dirs)
    loaded = [store.load(name) for name in models]
    opened = [
        OpenModel(package=one.package, predictor=open_predictor(one, device=device, threads=threads or None))
        for one in loaded
    ]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        order = Order(
            output=output,
            outputs=outputs,
            form=form,
            progress=lambda series_uid: _bar(bar, bar.add_task(f"series …{series_uid[-12:]}", total=1)),
        )
        result = contour_files(inputs, order, models=opened, channels=channels, policy=CompletionPolicy())
    if console is None:
        print_json(result.as_json())
    else:
        _print_offline(result, console)
    return 0 if any(series.contoured for series in result.series) else 1


_CHANNEL = re.compile(r"(?P<name>.+?):(?P<keyword>[A-Za-z]+)(?P<excludes>!?)=(?P<pattern>.+)")


def channels_of(texts: Sequence[str]) -> tuple[RouteChannel, ...]:
    """Read what tells the images of a model that takes several: ``NAME:KEYWORD=PATTERN``, ``!=`` to exclude.

    Raises
    ------
    SetupError
        A text is of another form, or names an unknown keyword.
    """
    rules: dict[str, dict[str, dict[str, tuple[str, ...]]]] = {}
    for text in texts:
        found = _CHANNEL.fullmatch(text)
        if found is None:
            raise SetupError(f"--channel {text} is not of the form NAME:KEYWORD=PATTERN.", _CHANNEL_EXAMPLE)
        name, keyword, excludes, pattern = found.groups()
        if keyword not in ROUTING_KEYWORDS:
            near = difflib.get_close_matches(keyword, ROUTING_KEYWORDS, n=1)
            known = f"do you mean {near[0]}?" if near else f"known are {', '.join(ROUTING_KEYWORDS)}."
            raise SetupError(f"--channel {text} names the unknown keyword {keyword}; {known}", _CHANNEL_EXAMPLE)
        kind = rules.setdefault(name, {"when": {}, "unless": {}})["unless" if excludes else "when"]
        kind[keyword] = (*kind.get(keyword, ()), pattern)
    return tuple(RouteChannel(name=name, when=each["when"], unless=each["unless"]) for name, each in rules.items())


_CHANNEL_EXAMPLE = "Example: --channel 'T1:SeriesDescription=*t1*' --channel 'T1:SeriesDescription!=*contrast*'"


def _check_inputs(inputs: Sequence[Path], output: Path) -> None:
    for path in inputs:
        if not path.exists():
            raise SetupError(f"{path} does not exist.", "Name folders, files or zips of DICOM, then the output folder.")
    if output.exists() and not output.is_dir():
        raise SetupError(f"The output {output} is a file.", "The last argument is the folder for the results.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"The output folder {output} cannot be made: {error.strerror}.", "Name another.") from error
    if not os.access(output, os.W_OK | os.X_OK):
        raise SetupError(f"The output folder {output} cannot be written to.", "Name another, or mend its rights.")


def _bar(bar: Progress, task: TaskID) -> ProgressFunction:
    def progress(doing: str, done: int, of: int) -> None:
        bar.update(task, description=doing, completed=done, total=of)

    return progress


def _print_offline(result: OfflineResult, console: Console) -> None:
    for series in result.series:
        _print_series(series, console)
    reasons: dict[str, list[str]] = {}
    for path, reason in result.unusable:
        reasons.setdefault(reason, []).append(path)
    for reason, paths in reasons.items():
        console.print(f"[yellow]not used[/] {len(paths)} file(s), {escape(paths[0])}: {escape(reason)}", soft_wrap=True)
    if not result.series and not result.unusable:
        console.print("No file was found.")
    console.print(f"[dim]{DISCLAIMER}[/]")


def _print_series(series: SeriesResult, console: Console) -> None:
    heading = escape(f"{series.modality} series {series.series_uid}, {series.instances} instances")
    if not series.contoured:
        console.print(f"[yellow]declined[/] {heading}: {escape(series.reason)}", soft_wrap=True, highlight=False)
        return
    console.print(f"[green]contoured[/] {heading}", soft_wrap=True, highlight=False)
    console.print(f"  judged whole: {escape('; '.join(series.evidence))}", soft_wrap=True, highlight=False)
    for left_out in series.left_out:
        console.print(f"  left out: {escape(left_out)}", soft_wrap=True, highlight=False)
    print_report(series.report, series.timings, console)
    for path in series.files:
        console.print(f"  wrote {escape(path)}", soft_wrap=True, highlight=False)


def print_report(report: dict[str, Any], timings: dict[str, float], console: Console) -> None:
    """Print structures with volumes, omissions, where it was computed, and seconds per stage."""
    for structure in report["structures"]:
        console.print(
            f"  {structure['name']:<16} {structure['volume_cm3']:>10.1f} cm³  {structure['contours']:>5} contours",
            highlight=False,
        )
    for omitted in report["omitted"]:
        console.print(f"  [yellow]no {escape(omitted['name'])}[/]: {escape(omitted['reason'])}", soft_wrap=True)
    for renamed in report["renamed"]:
        said = f"{renamed['structure']} is called {renamed['name']}: {renamed['reason']}"
        console.print(f"  {escape(said)}", soft_wrap=True, highlight=False)
    for note in report["notes"]:
        console.print(f"  note: {escape(note)}", soft_wrap=True)
    model = f"{report['model']} {report['model_version']}"
    console.print(f"  by {escape(model)} on {escape(report['computed_by'])}", soft_wrap=True, highlight=False)
    spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in timings.items())
    console.print(f"  seconds: {spent}", soft_wrap=True, highlight=False)


def check_command(config: Config, path: Path, console: Console | None) -> int:
    """Tell what works and what does not. Gives the exit status."""
    from node.checkup import Finding, check  # noqa: PLC0415 - see contour_command

    silence()
    findings: list[Finding] = [Finding(subject="configuration", holds=True, said=f"{path} is valid")]
    if console is not None:
        print_finding(findings[0], console)
    for finding in check(config):
        findings.append(finding)
        if console is not None:
            print_finding(finding, console)
    if console is None:
        print_json([asdict(finding) for finding in findings])
    return 0 if all(finding.holds for finding in findings) else 1


def print_finding(finding: "Finding", console: Console) -> None:
    """Print a finding: ok, note or FAIL, and what to do."""
    passed = "[yellow]note[/]" if finding.what_to_do else "[green]ok  [/]"
    mark = passed if finding.holds else "[bold red]FAIL[/]"
    console.print(f"{mark} {escape(f'{finding.subject}: {finding.said}')}", soft_wrap=True, highlight=False)
    if finding.what_to_do:
        console.print(f"     what to do: {escape(finding.what_to_do)}", soft_wrap=True, highlight=False)


def route_command(inputs: Sequence[Path], config: Config, console: Console | None) -> int:
    """Tell which route takes each series. Gives the exit status."""
    for path in inputs:
        if not path.exists():
            raise SetupError(f"{path} does not exist.", "Name DICOM files, folders or zips.")
    routes = [route.route() for route in config.routes]
    with tempfile.TemporaryDirectory(prefix="delineate-") as unpacked:
        found = collect(inputs, Path(unpacked))
    told = [_routed(instances, routes, config.completion.policy()) for instances in found.series]
    if console is None:
        unusable = [{"path": str(one.path), "reason": one.reason} for one in found.unusable]
        print_json({"series": told, "unusable": unusable})
    else:
        _print_routes(told, found.unusable, console)
    return 0 if told and all(one["route"] for one in told) else 1


def _routed(
    instances: tuple[ReceivedInstance, ...], routes: Sequence[Route], policy: CompletionPolicy
) -> dict[str, Any]:
    verdict = judge(instances, policy)
    whole = isinstance(verdict, Complete)
    # The node routes by the first plane of a volume; what is none is told by its first file.
    volumes = verdict.manifests if isinstance(verdict, Complete) else instances[:1]
    decisions = [decide(routes, one.attributes) for one in volumes]
    decision = next((one for one in decisions if isinstance(one, Accepted)), decisions[0])
    return {
        "series_uid": instances[0].series_instance_uid,
        "route": decision.route.name if isinstance(decision, Accepted) and whole else None,
        "channel": decision.channel if isinstance(decision, Accepted) and whole else "",
        "declined": verdict.reason if isinstance(verdict, Stalled) else "",
        "ambiguous": decision.reason if isinstance(decision, Declined) and decision.ambiguous else "",
        "checks": _checks(decision.checks),
    }


def _checks(checks: Iterable[RouteCheck]) -> list[dict[str, Any]]:
    return [{"route": one.route.name, "matches": one.matches, "reasons": list(one.reasons)} for one in checks]


def _print_routes(told: Sequence[dict[str, Any]], unusable: Sequence[Skipped], console: Console) -> None:
    for series in told:
        if series["route"]:
            as_channel = f" as {series['channel']}" if series["channel"] else ""
            taken = f"[green]taken by {escape(series['route'] + as_channel)}[/]"
        elif series["ambiguous"]:
            taken = f"[yellow]{escape(series['ambiguous'])}[/]"
        elif series["declined"]:
            taken = f"[yellow]declined before any route: {escape(series['declined'])}[/]"
        else:
            taken = "[yellow]no route takes it[/]"
        console.print(f"series {series['series_uid']}: {taken}", soft_wrap=True, highlight=False)
        for one in series["checks"]:
            said = "matches" if one["matches"] else "; ".join(one["reasons"])
            console.print(f"  {escape(one['route'])}: {escape(said)}", soft_wrap=True, highlight=False)
    for one in unusable:
        console.print(f"[yellow]not used[/] {escape(str(one.path))}: {escape(one.reason)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value for scripts."""
    print(json.dumps(value, indent=2, default=str))
