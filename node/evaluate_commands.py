"""What ``delineate evaluate`` does and prints."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from node.commands import print_json
from node.dataset.names import NO_TABLE, read_table
from node.dataset.raw import Split
from node.domain.errors import SetupError
from node.evaluation.files import Rules, pairs_of
from node.evaluation.images import Images
from node.evaluation.matching import matched
from node.evaluation.naming import OrganNames
from node.evaluation.pairs import Tolerances
from node.evaluation.plot import draw, refuse_plot
from node.evaluation.report import Report, Unmatched, evaluate
from node.evaluation.sources import Found, read_sources
from node.evaluation.tables import show
from node.inference.structure_table import parse_structures
from node.log import silence
from node.resources import shipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asks for."""

    reference: Path
    result: Path
    images: Path | None
    names: Path | None
    # Name and values of the regions of label maps.
    labels: Mapping[str, tuple[int, ...]]
    organs: tuple[str, ...]
    tolerances: Tolerances
    spacing_mm: float
    resample: bool
    split: Split | None
    per_patient: bool
    plot: Path | None


def evaluate_command(asked: Asked, console: Console | None) -> int:
    """Evaluate results and tell how; JSON where there is no console. Gives the exit status."""
    silence()
    if asked.plot is not None:
        refuse_plot(asked.plot)
    with _shown() as progress:
        report = _report(asked, progress)
    if asked.plot is not None and report.organs:
        draw(report, asked.plot)
    if console is None:
        print_json(report.as_json())
    else:
        show(report, console, per_patient=asked.per_patient)
        if asked.plot is not None and report.organs:
            console.print(f"drawn: {escape(str(asked.plot))}", soft_wrap=True, highlight=False)
        if not report.organs:
            console.print("[bold red]Nothing could be compared.[/]", highlight=False)
    return 0 if report.organs else 1


def _report(asked: Asked, progress: Callable[[str, int, int], None]) -> Report:
    progress("read what there is", 0, 1)
    references = read_sources(asked.reference, asked.labels, asked.split)
    results = read_sources(asked.result, asked.labels)
    pairs, unmatched = matched(references.sources, results.sources)
    unmatched = [*_unusable(references, "reference"), *_unusable(results, "result"), *unmatched]
    images = None
    if asked.images is not None:
        images = Images(asked.images, lambda done, of: progress("read headers of images", done, of))
    rules = Rules(
        names=_names(asked.names),
        images=images,
        spacing_mm=asked.spacing_mm,
        resample=asked.resample,
        organs=asked.organs,
    )
    report = evaluate(pairs_of(pairs, rules, unmatched), asked.tolerances, progress, unmatched)
    return replace(report, unmatched=(*report.unmatched, *_in_vain(asked, report)))


def _in_vain(asked: Asked, report: Report) -> Iterator[Unmatched]:
    """Tell which organs options name that nothing has: one that is misspelt would have the usual tolerance, unseen."""
    known = {found.organ for case in report.cases for found in case.organs}
    for organ in dict.fromkeys((*asked.organs, *asked.tolerances.of_organs_mm)):
        if organ not in known:
            yield Unmatched(what="organ", name=organ, reason="an option names it, and no case that was compared has it")


def _unusable(found: Found, what: str) -> list[Unmatched]:
    return [Unmatched(what=what, name=name, reason=reason) for name, reason in found.unusable.items()]


def _names(path: Path | None) -> OrganNames:
    known = parse_structures((shipped("conf") / "structures.toml").read_text(encoding="utf-8"))
    if path is None:
        return OrganNames(known=known, table=NO_TABLE)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {type(error).__name__}.", "Name a TOML file in UTF-8.") from error
    return OrganNames(known=known, table=read_table(text, path.name))


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("read", total=1)
        yield lambda doing, done, of: bar.update(task, description=escape(doing), completed=done, total=of)
