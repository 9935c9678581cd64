"""Images of one place for models that take several: which belong together, and whether they lie on one grid.

Nothing is guessed and nothing is resampled: where two images fit one channel, or the grids differ, a person must
decide.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from node.domain.grid import Grid
from node.domain.routing import Route
from node.domain.series import SeriesManifest

# Voxels that belong together lie at most so far apart: headers are rounded to thousandths of a mm, and a voxel is
# hardly ever below a third.
SAME_PLACE_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A whole volume that fits a channel."""

    channel: str
    manifest: SeriesManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Coming:
    """A series that is still being received, and fits a channel."""

    channel: str
    series_instance_uid: str
    frame_of_reference_uid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The images are there, one for each channel, in the order of the channels."""

    images: tuple[Image, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """Images are missing, or may be: ``coming`` are not whole yet."""

    channels: tuple[str, ...]
    coming: tuple[Coming, ...]
    # What fits the missing channels in another Frame of Reference.
    elsewhere: tuple[Image, ...]

    @property
    def words(self) -> str:
        """Say what is missing: ``T2``; ``T2 (series 1.2.3 would fit, but lies in another Frame of Reference)``."""
        coming = {one.channel: f" (series {one.series_instance_uid} is not whole yet)" for one in self.coming}
        missing = dict.fromkeys((*self.channels, *coming))
        return " and ".join(f"{name}{coming.get(name) or self._said_of_elsewhere(name)}" for name in missing)

    def _said_of_elsewhere(self, channel: str) -> str:
        uids = {one.manifest.series_instance_uid for one in self.elsewhere if one.channel == channel}
        if not uids:
            return ""
        lies = "lies" if len(uids) == 1 else "lie"
        return f" (series {' and '.join(sorted(uids))} would fit, but {lies} in another Frame of Reference)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """The images cannot be used together."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """What there is of one study in one Frame of Reference, and what follows."""

    images: tuple[Image, ...]
    verdict: Together | Lacking | Unfit


def gather(route: Route, images: Sequence[Image], coming: Sequence[Coming]) -> tuple[Gathering, ...]:
    """Find what belongs together among the images of one study.

    The order of images never matters, and a series that is not whole yet is waited for where it could change the
    answer.

    Parameters
    ----------
    images, coming
        What fits a channel of the route, of one study.

    Returns
    -------
    One for each Frame of Reference that an image has.
    """
    frames = dict.fromkeys(one.manifest.frame_of_reference_uid for one in images)
    return tuple(_in_one_frame(route, frame, images, coming) for frame in frames)


def why_not_one_grid(first: Grid, other: Grid) -> str:
    """Say how a grid differs from the first, with the figures; empty where voxels of one index are at one place."""
    if first.shape != other.shape:
        return f"{_by(other.shape)} instead of {_by(first.shape)} slices × rows × columns"
    apart_mm = _apart_mm(first, other)
    if apart_mm.max() <= SAME_PLACE_MM:
        return ""
    said = [f"voxels lie up to {apart_mm.max():.2f} mm apart"]
    if apart_mm[0, 0] > SAME_PLACE_MM:
        said.append(f"the first by {apart_mm[0, 0]:.2f} mm")
    if not np.allclose(first.spacing_mm, other.spacing_mm, rtol=0, atol=1e-4):
        said.append(f"spacing {_by(other.spacing_mm)} instead of {_by(first.spacing_mm)} mm")
    degrees = _degrees_between(first, other)
    if degrees > 0.001:
        said.append(f"directions {degrees:.2f} degrees apart")
    return ", ".join(said)


def said_of(image: Image, others: Iterable[Image]) -> str:
    """Name an image among others: by its series, and by its volume where the series has several of them."""
    uid = image.manifest.series_instance_uid
    volumes = {one.manifest.fingerprint for one in others if one.manifest.series_instance_uid == uid}
    return f"series {uid}" if volumes <= {image.manifest.fingerprint} else f"series {uid}, {_volume(image)}"


def _volume(image: Image) -> str:
    return f"volume {image.manifest.fingerprint[:8]}"


def _in_one_frame(route: Route, frame: str, images: Sequence[Image], coming: Sequence[Coming]) -> Gathering:
    here = tuple(one for one in images if one.manifest.frame_of_reference_uid == frame)
    elsewhere = tuple(one for one in images if one.manifest.frame_of_reference_uid != frame)
    # A header that names no Frame of Reference may still be followed by one that does.
    coming_here = tuple(one for one in coming if one.frame_of_reference_uid in (frame, None))
    return Gathering(images=here, verdict=_verdict(route, here, elsewhere, coming_here))


def _verdict(
    route: Route, here: Sequence[Image], elsewhere: Sequence[Image], coming: Sequence[Coming]
) -> Together | Lacking | Unfit:
    by_channel = {
        channel.name: sorted(
            (one for one in here if one.channel == channel.name),
            key=lambda one: (one.manifest.series_instance_uid, one.manifest.fingerprint),
        )
        for channel in route.channels
    }
    for name, found in by_channel.items():
        if len(found) > 1:
            which = " and ".join(said_of(one, here) for one in found)
            reason = f"{len(found)} images of one place fit {name}: {which}. The rules must tell them apart ('unless')."
            return Unfit(reason=reason)
    missing = tuple(name for name, found in by_channel.items() if not found)
    if missing or coming:
        return Lacking(
            channels=missing, coming=tuple(coming), elsewhere=tuple(one for one in elsewhere if one.channel in missing)
        )
    return _on_one_grid(tuple(found[0] for found in by_channel.values()))


def _on_one_grid(images: tuple[Image, ...]) -> Together | Unfit:
    first = images[0]
    for one in images[1:]:
        if why := why_not_one_grid(first.manifest.grid, one.manifest.grid):
            reason = (
                f"{one.channel} ({said_of(one, images)}) does not lie on the grid of {first.channel} "
                f"({said_of(first, images)}): {why}. Images are not resampled: send one that does, and let the rules "
                # Else both fit the channel, and nobody chooses between them.
                "leave this one out ('unless')."
            )
            return Unfit(reason=reason)
    return Together(images=images)


def _apart_mm(first: Grid, other: Grid) -> NDArray[np.float64]:
    """Give how far the corners of planes of one index are apart, shape (slices, 4): nothing inside is farther."""
    slices, rows, columns = first.shape
    row, column = np.array([0, 0, rows - 1, rows - 1]), np.array([0, columns - 1, 0, columns - 1])
    apart = [
        first.points_lps_mm(index, row, column) - other.points_lps_mm(index, row, column) for index in range(slices)
    ]
    return np.asarray(np.linalg.norm(np.array(apart), axis=2), dtype=np.float64)


def _degrees_between(first: Grid, other: Grid) -> float:
    """Give the largest angle between directions of one axis."""
    # By the length of the difference: the cosine of so small an angle is 1.
    apart = np.linalg.norm(first.axis_directions() - other.axis_directions(), axis=1).max()
    return float(np.degrees(2 * np.arcsin(min(apart / 2, 1.0))))


def _by(sizes: Iterable[float]) -> str:
    return " × ".join(f"{size:.6g}" for size in sizes)
