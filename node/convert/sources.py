"""What a package is made of: trained networks, how their labels become the package's, and what belongs to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from node.convert.postprocessing import Postprocessing
from node.convert.results_folder import TrainedNetwork
from node.inference.package import Gate, KeepLargest

if TYPE_CHECKING:  # it needs torch, which what is told here does not
    from node.convert.checkpoints import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A trained network with its folds."""

    trained: TrainedNetwork
    checkpoints: tuple["Checkpoint", ...]
    # Of the part that it becomes; empty where it is the only one.
    part: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A trained network that finds the region in which the others work."""

    source: Source
    # Names of its data set's labels that the region is around.
    around: tuple[str, ...]
    margin_mm: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingredients:
    """All that a package is made of."""

    # What the package is called unless a person says otherwise.
    name: str
    title: str
    # Where it comes from, in words.
    described: str
    # In the order in which their labels are merged.
    parts: tuple[Source, ...]
    region: Region | None = None
    postprocessing: Postprocessing | None = None
    # What follows the network where nnU-Net knows nothing of it: rules, and when a structure is believed.
    rules: tuple[KeepLargest, ...] = ()
    gates: tuple[Gate, ...] = ()
    # What it cannot do, in words; empty where nobody said.
    limits: str = ""
    # Of the training and its results, Markdown for the model card; empty where nothing was measured.
    report: str = ""
    # What a person should know, one sentence each.
    remarks: tuple[str, ...] = ()

    @property
    def networks(self) -> tuple[Source, ...]:
        """Give every network, in the order of `node.inference.package.ModelPackage.networks`."""
        return self.parts if self.region is None else (self.region.source, *self.parts)

    @property
    def tables(self) -> tuple[Mapping[int, int], ...]:
        """Give for each part the package's label of each of its own: one after the other, as the parts follow."""
        values = [source.trained.output.label_values for source in self.parts]
        if len(self.parts) == 1:
            return ({value: value for value in values[0]},)
        firsts = accumulate((len(each) for each in values), initial=1)
        return tuple(
            {value: first + number for number, value in enumerate(each)}
            for first, each in zip(firsts, values, strict=False)
        )

    @property
    def labels(self) -> Mapping[str, tuple[int, ...]]:
        """Give the package's label values of each structure; one that several parts know has those of all."""
        found: dict[str, tuple[int, ...]] = {}
        for source, table in zip(self.parts, self.tables, strict=True):
            for name, values in source.trained.labels.items():
                found[name] = (*found.get(name, ()), *(table[value] for value in values))
        return found
