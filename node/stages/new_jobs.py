"""The rows of new jobs. Their keys are deterministic: what was decided once is not decided a second time."""

import hashlib
from collections.abc import Sequence
from typing import Any

from node.domain.channels import Image
from node.domain.routing import Route
from node.domain.series import SeriesManifest


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
        "destinations": list(route.destinations),
        "run_number": run_number,
    }
