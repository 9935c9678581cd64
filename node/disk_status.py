"""What ``delineate status`` says of the disk: what is free, who holds it, when it is full, and what is removed next."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from node.adapters.disk import free_bytes
from node.adapters.ledger import Ledger
from node.config import Config
from node.domain.retention import Goes, Judgement, Stays, days_left, judge_images, judge_results

# Of the oldest so many are judged, and so many of what goes next are named.
_JUDGED, _NAMED = 500, 5
_GB = 1e9


def disk_status(config: Config, ledger: Ledger, now: float) -> dict[str, Any]:
    """Give the disk of the data folder as JSON values, in bytes.

    ``held`` is None until the node has measured it for the first time. ``days_left`` is a number, "does not grow" or
    "unknown".

    Parameters
    ----------
    now
        Seconds since the epoch.
    """
    samples = ledger.disk_samples()
    minimum_free = config.node.minimum_free_gb * _GB
    marks = config.retention.watermarks(config.node.minimum_free_gb)
    free = free_bytes(config.node.data_dir)
    is_low = marks.is_low(free, was_low=False)
    judged = _judged(config, ledger, now, is_low=is_low)
    return {
        "free": free,
        "minimum_free": minimum_free,
        "early_below": marks.below,
        "is_low": is_low,
        "held": asdict(samples[-1]) if samples else None,
        "days_left": days_left(samples, minimum_free),
        "next": [one for one in judged if one["at"] is not None][:_NAMED],
        "kept": dict(Counter(one["because"] for one in judged if one["at"] is None).most_common()),
    }


def _judged(config: Config, ledger: Ledger, now: float, *, is_low: bool) -> list[dict[str, Any]]:
    """Give the oldest images and results with the time when they go, None where they stay; what goes first is first."""
    policy = config.retention.policy()
    judged = [
        _said("images", series.series_uid, judge_images(series, now, policy, is_low=is_low), now)
        for series in ledger.series_with_images(after=None, limit=_JUDGED)
    ]
    judged += [
        _said("results", job.job, judge_results(job, now, policy, is_low=is_low), now)
        for job in ledger.jobs_with_results(after=None, limit=_JUDGED)
    ]
    return sorted(judged, key=lambda one: (one["at"] is None, one["at"] or 0.0))


def _said(what: str, name: str, judgement: Judgement, now: float) -> dict[str, Any]:
    match judgement:
        case Goes():
            return {"what": what, "name": name, "at": now, "because": "nobody needs it"}
        case Stays():
            return {"what": what, "name": name, "at": judgement.until, "because": judgement.reason}


def disk_lines(disk: Mapping[str, Any]) -> Iterator[str]:
    """Say it for people; one fact per line."""
    yield f"disk: {_gb(disk['free'])} free; below {_gb(disk['minimum_free'])} instances are refused"
    if disk["is_low"]:
        yield f"  low: below {_gb(disk['early_below'])} what was delivered is removed early"
    held = disk["held"]
    if held is not None:
        each = ", ".join(f"{name} {_gb(held[name])}" for name in ("images", "results", "rejected"))
        yield f"  {each}, measured at {_clock(held['at'])}"
    yield f"  {_forecast(disk['days_left'])}"
    for one in disk["next"]:
        yield f"  goes at {_clock(one['at'])}: {one['what']} of {one['name']} ({one['because']})"
    for because, number in disk["kept"].items():
        yield f"  {number} stay{'s' * (number == 1)}: {because}"


def _forecast(left: float | str) -> str:
    if left == "unknown":
        return "when it will be full is not known yet"
    if isinstance(left, str):
        return "it does not fill up, as the past week went"
    return f"full in {left:.1f} days, as the past week went"


def _gb(held: float) -> str:
    return f"{held / _GB:.1f} GB"


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
