"""The account of a training set: patients, organs, volumes, and what was left out and why. It names nobody.

Series and structure sets have numbers, in an order that says nothing of them; ``key.csv``, written elsewhere and only
if it is asked for, tells whose they are.
"""

import csv
import io
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from node import __version__
from node.dataset.built import Built, BuiltCase
from node.dataset.names import Names
from node.dataset.privacy import Privacy
from node.dataset.raw import Split
from node.dataset.splitting import shuffled
from node.domain.tg263 import nearest

REPORT_JSON, REPORT_TEXT = "report.json", "report.md"
SCHEMA_VERSION = 1

# A volume is odd that is so many median absolute deviations from the median; scaled as a standard deviation.
FAR = 3.0
_SCALE = 1.4826
# Of fewer nobody can tell what is usual.
ENOUGH = 5
# Of patients whose identifier was taken away, two studies may train and test.
NAMELESS = "studies have no Patient ID, and count as a patient each: see that no two of them are of one patient"
KEY_COLUMNS = (
    "what",
    "number",
    "case",
    "patient",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
)


def report(built: Built) -> dict[str, Any]:
    """Give the account as JSON values."""
    order, archive = built.order, built.archive
    privacy = Privacy(archive.identities, order.known_names | set(order.names.organs))
    numbers = numbers_of(built)
    studies = {one.study_instance_uid for one in archive.series.values()}
    patients = {archive.patients.of(study) for study in studies}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": order.name,
        "made_by": f"Delineate {__version__}",
        "modality": order.modality,
        "seed": order.seed,
        "archive": {
            "files": archive.files,
            "not_used": dict(sorted(Counter({privacy.reason(why): n for why, n in archive.no_use.items()}).items())),
            "patients": len(patients),
            "studies_without_patient_id": sum(not archive.patients.is_named(study) for study in studies),
            "series": len(archive.series),
            "structure_sets": len(archive.structure_sets) + len(archive.doubtful),
        },
        "splits": {each: _split(built, each) for each in get_args(Split)},
        "organs": [_organ(built, organ) for organ in order.names.organs],
        "cases": [_case(one, order.names.organs) for one in built.cases],
        "left_out": [
            {
                "what": one.what,
                ("case" if one.what == "organ" else "number"): one.of if one.what == "organ" else numbers[one.of],
                **({"organ": one.organ} if one.organ else {}),
                "reason": privacy.reason(one.reason),
            }
            for one in built.left_out
        ],
        "names": names_found(built, privacy),
    }


def numbers_of(built: Built) -> Mapping[str, int]:
    """Give series and structure sets, by their UIDs, their numbers; each kind is counted from 1."""
    archive, seed = built.archive, built.order.seed
    series = shuffled(archive.series, seed)
    structure_sets = shuffled([*archive.structure_sets, *archive.doubtful], seed)
    return {uid: number for each in (series, structure_sets) for number, uid in enumerate(each, start=1)}


def names_found(built: Built, privacy: Privacy) -> dict[str, Any]:
    """Tell how regions are called and which organ that is, as far as it tells of nobody."""
    names = built.order.names
    counts = name_counts(built)
    listed = [
        {"name": name, "structure_sets": count, "organ": names.organ_of(name)}
        for name, count in counts.most_common()
        if not privacy.may_tell(name)
    ]
    return {
        "mapped": [one for one in listed if one["organ"]],
        "unmapped": [
            {"name": one["name"], "structure_sets": one["structure_sets"]} for one in listed if not one["organ"]
        ],
        "withheld": len(counts) - len(listed),
    }


def name_counts(built: Built) -> Counter[str]:
    """Count in how many structure sets each name of a region that is drawn occurs."""
    return Counter(
        name
        for one in built.archive.structure_sets.values()
        for name in {region.name for region in one.facts.regions if not region.is_empty}
    )


def as_markdown(account: Mapping[str, Any]) -> str:
    """Give the account for people."""
    return "\n".join(_lines(account)) + "\n"


def key(built: Built) -> str:
    """Give the table that leads from cases and numbers back to patients, as CSV. Keep it apart, and safe."""
    numbers = numbers_of(built)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(KEY_COLUMNS)
    for one in built.cases:
        table.writerow(
            (
                "case",
                "",
                one.case.name,
                one.case.patient,
                one.patient_id,
                one.study_uid,
                one.series_uid,
                one.structure_set_uid,
            )
        )
    for series in built.archive.series.values():
        row = ("series", numbers[series.uid], "", "", series.patient_id, series.study_instance_uid, series.uid, "")
        table.writerow(row)
    for held in built.archive.structure_sets.values():
        facts = held.facts
        uid = facts.sop_instance_uid
        table.writerow(("structure set", numbers[uid], "", "", facts.patient_id, facts.study_instance_uid, "", uid))
    return text.getvalue()


def starting_table(built: Built) -> str:
    """Give a table of names to start from, as TOML: what is known already, and what a person has to say."""
    lines = [
        "# An organ, and how it is spelt; `*` and `?` stand for parts of a name. See `delineate dataset build --help`."
    ]
    names = built.order.names
    # TOML takes each organ once.
    unknown: dict[str, list[str]] = {}
    for name, count in name_counts(built).most_common():
        organ = names.organ_of(name)
        if organ:
            lines.append(f"# {organ}: {_quoted(name)}, in {count}, is known already.")
        else:
            unknown.setdefault(_near(name, names) or "ORGAN", []).append(_quoted(name))
    lines.append("# Not known, under the organ that is spelt most alike: take away the # of those that are right.")
    lines += [f"# {organ} = [{', '.join(listed)}]" for organ, listed in sorted(unknown.items())]
    return "\n".join(lines) + "\n"


def _near(name: str, names: Names) -> str | None:
    side = names.table.side(name)
    return nearest(f"{name}_{side}" if side in ("L", "R") else name, names.organs)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(each if each.isprintable() else "?" for each in escaped) + '"'


def _split(built: Built, wanted: str) -> dict[str, int]:
    cases = [one.case for one in built.cases if one.case.split == wanted]
    return {"patients": len({one.patient for one in cases}), "cases": len(cases)}


def _organ(built: Built, organ: str) -> dict[str, Any]:
    cases = [one for one in built.cases if organ in one.case.contoured]
    volumes = {one.case.name: one.labelled.volumes_cm3[organ] for one in cases}
    return {
        "name": organ,
        "label": built.order.names.organs.index(organ) + 1,
        "patients": len({one.case.patient for one in cases}),
        "cases": {each: sum(one.case.split == each for one in cases) for each in get_args(Split)},
        "volume_cm3": _distribution(list(volumes.values())),
        "outliers": [{"case": name, "volume_cm3": round(volumes[name], 3)} for name in outliers(volumes)],
    }


def _distribution(volumes: Sequence[float]) -> dict[str, float] | None:
    if not volumes:
        return None
    return {
        "min": round(min(volumes), 3),
        "median": round(statistics.median(volumes), 3),
        "max": round(max(volumes), 3),
    }


def outliers(volumes: Mapping[str, float]) -> list[str]:
    """Name the cases whose volume is further from the median than `FAR` scaled median absolute deviations."""
    if len(volumes) < ENOUGH:
        return []
    middle = statistics.median(volumes.values())
    spread = statistics.median(abs(each - middle) for each in volumes.values()) * _SCALE
    return [name for name, volume in volumes.items() if spread and abs(volume - middle) > FAR * spread]


def _case(one: BuiltCase, organs: Sequence[str]) -> dict[str, Any]:
    return {
        "name": one.case.name,
        "patient": one.case.patient,
        "split": one.case.split,
        "shape": list(one.shape),
        "spacing_mm": [round(each, 4) for each in one.spacing_mm],
        "volumes_cm3": {organ: round(volume, 3) for organ, volume in one.labelled.volumes_cm3.items()},
        "not_contoured": [organ for organ in organs if organ not in one.case.contoured],
        "overlaps": [
            {
                "organ": each.organ,
                "taken_by": each.taken_by,
                "volume_cm3": round(each.voxels * one.voxel_volume_mm3 / 1000, 3),
            }
            for each in one.labelled.overlaps
        ],
        "remarks": list(one.labelled.remarks),
    }


def _lines(account: Mapping[str, Any]) -> Iterator[str]:
    archive = account["archive"]
    yield f"# Training set {account['name']}"
    yield ""
    yield (
        f"Made by {account['made_by']} of {archive['files']} files: {archive['patients']} patients,"
        f" {archive['series']} series, {archive['structure_sets']} structure sets. Seed {account['seed']}."
    )
    yield ""
    if nameless := archive["studies_without_patient_id"]:
        yield from (f"{nameless} {NAMELESS}.", "")
    yield from _table(
        ("split", "patients", "cases"),
        [(name, each["patients"], each["cases"]) for name, each in account["splits"].items()],
    )
    yield from ("## Organs", "", "Volumes in cm³, as contoured.", "")
    yield from _table(
        ("label", "organ", "patients", "train", "validation", "test", "min", "median", "max"),
        [
            (one["label"], one["name"], one["patients"], *one["cases"].values(), *_volumes(one["volume_cm3"]))
            for one in account["organs"]
        ],
    )
    for organ in account["organs"]:
        for odd in organ["outliers"]:
            yield f"- Look at {odd['case']}: {organ['name']} has {odd['volume_cm3']:.1f} cm³, far from the others."
    remarks = [f"- {one['name']}: {each}." for one in account["cases"] for each in _remarks(one)]
    if remarks:
        yield from ("", "## Odd", "", *remarks)
    yield from ("", "## Left out", "")
    counted = Counter((one["what"], one.get("organ", ""), one["reason"]) for one in account["left_out"])
    yield from _table(
        ("what", "organ", "reason", "number"),
        [(what, organ, reason, count) for (what, organ, reason), count in counted.most_common()],
    )
    yield from _table(("files that are no use", "number"), list(archive["not_used"].items()))
    yield from ("## Names of no organ", "", "List those in `--names` that are one.", "")
    yield from _table(
        ("name", "structure sets"), [(one["name"], one["structure_sets"]) for one in account["names"]["unmapped"]]
    )
    if account["names"]["withheld"]:
        yield f"{account['names']['withheld']} more are withheld: they may say whose they are."


def _remarks(case: Mapping[str, Any]) -> list[str]:
    taken = [f"{one['volume_cm3']:.2f} cm³ of {one['organ']} lie in {one['taken_by']}" for one in case["overlaps"]]
    return [*taken, *case["remarks"]]


def _volumes(distribution: Mapping[str, float] | None) -> tuple[str, ...]:
    return ("", "", "") if distribution is None else tuple(f"{each:.1f}" for each in distribution.values())


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    if not rows:
        return
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(str(each).replace("|", "\\|").replace("\n", " ") for each in row) + " |"
    yield ""
