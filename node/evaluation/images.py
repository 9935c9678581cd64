"""The grids of image series that contours may be drawn on."""

from dataclasses import replace
from pathlib import Path

from node.adapters.dicom_files import read_file
from node.dataset.archive import Archive, Progress, survey
from node.dicom.archived_structures import StructureSetFacts
from node.domain.errors import InputError
from node.domain.grid import Grid
from node.domain.series import CompletionPolicy, Stalled
from node.offline import judge

_REMEDY = "Name the folder with all images that the reference was drawn on, or leave out --images."


class Images:
    """The series below a folder; of each only headers are read, and files of those that are asked for."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._archive: Archive = survey(folder, progress)

    def grid_of(self, facts: StructureSetFacts) -> Grid:
        """Give the grid of the images that a structure set is drawn on.

        Raises
        ------
        InputError
            They are not there, not all of them, or of several series or volumes.
        """
        archive = self._archive
        named = {archive.series_of[image] for image in facts.drawn_on if image in archive.series_of}
        named = named or {uid for uid in facts.series if uid in archive.series}
        if len(named) != 1:
            what = f"images of {len(named)} series" if named else "images that are not in the folder of --images"
            raise InputError(f"it is drawn on {what}", _REMEDY)
        files = archive.series[named.pop()].files
        verdict = judge(tuple(replace(read_file(path), file_name=str(path)) for path in files), CompletionPolicy())
        if isinstance(verdict, Stalled):
            raise InputError(f"its images are no whole series: {verdict.reason}", _REMEDY)
        for manifest in verdict.manifests:
            planes = {plane.sop_instance_uid for plane in manifest.grid.planes}
            if facts.drawn_on <= planes and (facts.drawn_on or len(verdict.manifests) == 1):
                return manifest.grid
        raise InputError("it is drawn on images that are of no volume of its series", _REMEDY)
