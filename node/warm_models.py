"""Models that stay open between jobs, as many as the memory holds beside the one at work."""

from collections.abc import Callable
from functools import partial

from node.adapters.model_store import ModelStore
from node.adapters.onnx_memory import rooms_of
from node.adapters.onnx_session import open_predictor
from node.config import NodeSection
from node.inference.memory import USUAL_SCAN, bytes_for
from node.inference.package import LoadedPackage
from node.inference.predictor import Opened
from node.stages.contour import OpenModel
from node.stages.ports import Log


def opener(section: NodeSection) -> Callable[[LoadedPackage], Opened]:
    """Give what opens networks where the configuration says, and as exactly."""
    return partial(
        open_predictor,
        device=section.device,
        device_id=section.device_id,
        threads=section.threads or None,
        precision=section.precision,
        overflow=section.on_overflow,
    )


class WarmModels:
    """Opens a model when a job first needs it, and closes those that were not used for longest when memory is short.

    It is short where the model that is asked for could not do a usual scan beside all others.
    """

    def __init__(self, models: ModelStore, open_network: Callable[[LoadedPackage], Opened], log: Log) -> None:
        self._models = models
        self._open = open_network
        self._log = log
        # The one used last is the last.
        self._warm: dict[str, OpenModel] = {}

    def __call__(self, name: str) -> OpenModel:
        """Give a model package with its network.

        Raises
        ------
        SetupError
            There is no such package, it is wrong, or it does not run where the configuration says.
        """
        self._warm[name] = self._warm.pop(name) if name in self._warm else self._opened(name)
        while len(self._warm) > 1 and _is_short_of_memory(self._warm[name]):
            # The one that is wanted, too: what an accelerator has free is asked when a network is opened there.
            self._close(next(iter(self._warm)), name)
            self._warm[name] = self._opened(name)
        return self._warm[name]

    def _opened(self, name: str) -> OpenModel:
        loaded = self._models.load(name)
        model = OpenModel(package=loaded.package, predictor=self._open(loaded))
        self._log("model opened", model=name, computed_by=model.predictor.computed_by)
        return model

    def _close(self, *names: str) -> None:
        for name in names:
            del self._warm[name]
        self._log("model closed", model=names[0], reason="memory is short")


def _is_short_of_memory(model: OpenModel) -> bool:
    return any(
        bytes_for(network, USUAL_SCAN, room) > (room.host if room.device is None else room.device)
        for network, room in zip(model.package.networks, rooms_of(model.predictor), strict=True)
    )
