"""Sessions of ONNX Runtime that tell a meter when a network computes and when something is opened.

In the place of `onnxruntime.InferenceSession`, as the engine finds it there: what it does is not changed.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from inferring.measured import NETWORK, OPEN, POST, Meter
from node.adapters import onnx_session

# Taken from there: it stops ONNX Runtime's telemetry before it is imported.
ort = onnx_session.ort

_Session = ort.InferenceSession

# What networks call their input, whoever made them.
INPUT = "patches"


@dataclass(slots=True)
class Networks:
    """Sessions of networks that were opened, and how often they ran."""

    sessions: list[Any] = field(default_factory=list)
    runs: int = 0


class Told(_Session):  # type: ignore[misc, valid-type]
    """A session that is told of."""

    def __init__(
        self, told: tuple[Meter, Networks], more: dict[str, str], model: Any, *rest: Any, **options: Any
    ) -> None:
        meter, self._networks = told
        self._meter = meter
        if more and isinstance(model, str):
            options["providers"] = [(name, {**choice, **more}) for name, choice in options["providers"]]
        before = meter.phase
        meter.begin(OPEN)
        super().__init__(model, *rest, **options)
        meter.begin(before)
        # What lies beside a network has other inputs.
        self._is_network = [each.name for each in self.get_inputs()] == [INPUT]
        if self._is_network:
            self._networks.sessions.append(self)

    def run(self, *rest: Any, **options: Any) -> Any:
        """Run on arrays of the machine's memory."""
        return self._timed(super().run, *rest, **options)

    def run_with_iobinding(self, *rest: Any, **options: Any) -> Any:
        """Run on what is bound."""
        return self._timed(super().run_with_iobinding, *rest, **options)

    def _timed(self, call: Any, *rest: Any, **options: Any) -> Any:
        if not self._is_network:
            return call(*rest, **options)
        self._networks.runs += 1
        self._meter.begin(NETWORK)
        answer = call(*rest, **options)
        self._meter.begin(POST)
        return answer


def install(meter: Meter, more: dict[str, str] | None = None) -> Networks:
    """Have every session that is opened from now on tell a meter.

    Parameters
    ----------
    more
        Options of the provider that networks get beside the engine's own.

    Returns
    -------
    Where networks are noted that are opened.
    """
    networks = Networks()
    ort.InferenceSession = partial(Told, (meter, networks), more or {})
    return networks
