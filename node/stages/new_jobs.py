"""The rows of new jobs. Their keys are deterministic: what was decided once is not decided a second time."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from node.domain.channels import Image
from node.domain.delivery import SENDER, sender_of, to_sender
from node.domain.jobs import Priority
from node.domain.routing import Route
from node.domain.series import SeriesManifest
from node.stages.ports import Row


def job_of(manifest: SeriesManifest, route: Route, model: str, run_number: int = 1) -> dict[str, Any]:
    """Give the columns of the job that contours a manifest with a model."""
    return _job(manifest, manifest.fingerprint, route, model, run_number)


def joint_job_of(images: Sequence[Image], route: Route, model: str, run_number: int = 1) -> dict[str, Any]:
    """Give the columns of the job that contours the first of several images with a model that takes all.

    What the job takes is pinned by the fingerprints: whatever comes later of these series belongs to another job.
    """
    first = images[0].manifest
    together = hashlib.sha256("\n".join(one.manifest.fingerprint for one in images).encode()).hexdigest()
    channels = [
        {
            "channel": one.channel,
            "series_uid": one.manifest.series_instance_uid,
            "fingerprint": one.manifest.fingerprint,
        }
        for one in images
    ]
    return {**_job(first, together, route, model, run_number), "channels": channels}


def _job(manifest: SeriesManifest, taken: str, route: Route, model: str, run_number: int) -> dict[str, Any]:
    return {
        "job": f"{manifest.series_instance_uid}/{taken[:16]}/{model}/{run_number}",
        "series_uid": manifest.series_instance_uid,
        "fingerprint": manifest.fingerprint,
        "route": route.name,
        "model": model,
        "outputs": list(route.outputs),
        "destinations": destinations_of(route, manifest.attributes.get("CallingAETitle", "")),
        "priority": int(Priority[route.priority.upper()]),
        "run_number": run_number,
    }


def destinations_of(route: Route, calling_ae_title: str) -> list[str]:
    """Name the destinations of a route for a series of that sender: it is one of them where the route says so."""
    back = to_sender(calling_ae_title)
    return list(dict.fromkeys(back if name == SENDER else name for name in route.destinations))


def run_again(former: Row, jobs: Iterable[Row], route: Route | None, model: str) -> dict[str, Any]:
    """Give the columns of the job that contours anew what a former one did.

    Parameters
    ----------
    jobs
        All of the series.
    route
        The former's, as it is configured now; without one the former's outputs and destinations stay.
    """
    series_uid, taken, _, _ = former["job"].split("/")
    runs = [one["run_number"] for one in jobs if one["job"].startswith(f"{series_uid}/{taken}/{model}/")]
    run_number = max(runs, default=0) + 1
    kept = ("series_uid", "fingerprint", "channels", "route")
    wanted = former
    if route is not None:
        back = [one for one in former["destinations"] if sender_of(one) is not None]
        named = [one for name in route.destinations for one in (back if name == SENDER and back else [name])]
        wanted = {"outputs": list(route.outputs), "destinations": named}
    return {
        **{name: former[name] for name in kept},
        "job": f"{series_uid}/{taken}/{model}/{run_number}",
        "model": model,
        "outputs": wanted["outputs"],
        "destinations": wanted["destinations"],
        "priority": former["priority"],
        "run_number": run_number,
    }


def superseded(
    former: Iterable[Row], jobs: Sequence[Row], current: Collection[str], files_of: Callable[[str], Collection[str]]
) -> dict[str, str]:
    """Tell which jobs of a series are superseded, for their volume is there no more: a late slice made it another.

    Parameters
    ----------
    former
        All jobs of the series.
    jobs
        Those that follow from the series as it is now.
    current
        Fingerprints of the volumes that it has now.
    files_of
        SOP Instance UIDs of a volume that it has or had, by its fingerprint.

    Returns
    -------
    dict
        Former job -> the job that takes its place: of the same route and model, with most of its instances.
    """
    found = {}
    for old in former:
        if old["superseded_by"] or old["channels"] or old["fingerprint"] in current:
            continue
        before = set(files_of(old["fingerprint"]))
        alike = [one for one in jobs if (one["route"], one["model"]) == (old["route"], old["model"])]
        shared = {one["job"]: len(before.intersection(files_of(one["fingerprint"]))) for one in alike}
        if any(shared.values()):
            found[old["job"]] = max(shared, key=lambda job: shared[job])
    return found


def superseded_together(
    former: Iterable[Row], jobs: Iterable[Row], current: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """Tell which jobs that take several images are superseded, for one of the images is there no more.

    Parameters
    ----------
    former, jobs
        As `superseded` takes them.
    current
        Series Instance UID -> fingerprints of its volumes that models take together with others.
    """
    found: dict[str, str] = {}
    for old in former:
        gone = any(one["fingerprint"] not in current.get(one["series_uid"], ()) for one in old["channels"])
        if gone and not old["superseded_by"]:
            found.update((old["job"], new["job"]) for new in jobs if _takes_the_same_series(old, new))
    return found


def _takes_the_same_series(one: Row, other: Row) -> bool:
    def taken(row: Row) -> tuple[object, ...]:
        return row["route"], row["model"], [each["series_uid"] for each in row.get("channels", ())]

    return taken(one) == taken(other)
