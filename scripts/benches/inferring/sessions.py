"""Sessions of ONNX Runtime that tell a meter when a network computes and when something is opened.

In the place of `onnxruntime.InferenceSession`, as the engine finds it there: what it does is not changed.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import onnxruntime as ort
from inferring.measured import NETWORK, OPEN, POST, Meter

_Session = ort.InferenceSession


class Told(_Session):  # type: ignore[misc, valid-type]
    """A session that is told of."""

    def __init__(self, meter: Meter, more: dict[str, str], model: Any, *rest: Any, **options: Any) -> None:
        # Networks are files, what lies beside them is made in memory.
        self._meter, self._is_network = meter, isinstance(model, str)
        if self._is_network and more:
            options["providers"] = [_with(each, more) for each in options["providers"]]
        before = meter.phase
        meter.begin(OPEN)
        super().__init__(model, *rest, **options)
        meter.begin(before)

    def run(self, *rest: Any, **options: Any) -> Any:
        """Run on arrays of the machine's memory."""
        return self._timed(super().run, *rest, **options)

    def run_with_iobinding(self, *rest: Any, **options: Any) -> Any:
        """Run on what is bound."""
        return self._timed(super().run_with_iobinding, *rest, **options)

    def _timed(self, call: Any, *rest: Any, **options: Any) -> Any:
        # Before it is open, a run is part of that: the strict session tries a graph of one node.
        if not self._is_network or self._meter.phase == OPEN:
            return call(*rest, **options)
        self._meter.begin(NETWORK)
        answer = call(*rest, **options)
        self._meter.begin(POST)
        return answer


def install(meter: Meter, more: dict[str, str] | None = None) -> None:
    """Have every session that is opened from now on tell a meter.

    Parameters
    ----------
    more
        Options of the provider that networks get beside the engine's own.
    """
    ort.InferenceSession = partial(Told, meter, more or {})


def _with(provider: str | Sequence[Any], more: dict[str, str]) -> str | tuple[str, dict[str, str]]:
    if isinstance(provider, str):
        return provider
    return provider[0], {**provider[1], **more}
