"""Series of small CT slices, and an inbox that holds some."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from node.adapters.inbox import Inbox
from node.domain.arrival import Arrival, InstanceIdentity
from tests.builders import Identity, ct_series, grid, save_series, uid
from tests.raw_sender import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A series as it is sent."""

    series_instance_uid: str
    study_instance_uid: str
    instances: tuple[Instance, ...]


def make_series(name: str, slices: int, side: int, folder: Path) -> Series:
    """Make a CT of ``slices`` × ``side`` × ``side``: a body with a liver in air."""
    stack = grid(slices=slices, rows=side, columns=side, series=name)
    index_s, index_r, index_c = np.ogrid[:slices, :side, :side]
    body = (index_r - 0.47 * side) ** 2 + (index_c - 0.52 * side) ** 2 < (0.4 * side) ** 2
    liver_in_slice = (index_r - 0.43 * side) ** 2 + (index_c - 0.34 * side) ** 2 < (0.14 * side) ** 2
    liver = (np.abs(index_s - slices / 2) < slices / 4) & liver_in_slice
    voxels = np.where(liver, 150, np.where(body, 50, -1000)).astype(np.int16)
    identity = Identity(study=name, frame_of_reference=name)
    datasets = ct_series(stack, voxels=voxels, identity=identity, series=name)
    paths = save_series(datasets, folder / name)
    return Series(
        series_instance_uid=uid(name, "series"),
        study_instance_uid=str(datasets[0].StudyInstanceUID),
        instances=tuple(map(Instance.read, paths)),
    )


def lay_down(series: Sequence[Series], folder: Path) -> Inbox:
    """Make an inbox in a folder with these series, whose last instance came an hour ago."""
    inbox = Inbox(folder, minimum_free_gb=0.0)
    for one in series:
        for instance in one.instances:
            _lay_down(instance, one, inbox)
    return inbox


def _lay_down(instance: Instance, series: Series, inbox: Inbox) -> None:
    arrival = Arrival(
        affected_sop_class_uid=instance.sop_class_uid,
        affected_sop_instance_uid=instance.sop_instance_uid,
        abstract_syntax_uid=instance.sop_class_uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        calling_ae_title="BENCH",
        called_ae_title="DELINEATE",
        association_id="",
    )
    identity = InstanceIdentity(
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        study_instance_uid=series.study_instance_uid,
        series_instance_uid=series.series_instance_uid,
    )
    part = inbox.open(arrival)
    part.write(instance.data_set)
    stored = part.store(identity)
    # The time of arrival is the file's.
    an_hour_ago = time.time() - 3600.0
    os.utime(inbox.path(series.series_instance_uid, stored.file_name), (an_hour_ago, an_hour_ago))
