"""The node's stages called one after the other, in a process of its own, without the durable engine.

    python -m working.bare CONFIGURATION

For each line on standard input it does all that lies in the inbox, and prints the seconds of processor time that it
took. The tables are the node's own, on SQLite: only the engine is missing.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node import __version__
from node.adapters.dicom_files import dataset_loader, read_file
from node.adapters.pulse import Pulse
from node.adapters.result_store import ResultStore
from node.config import load
from node.delivering import deliverer
from node.log import silence
from node.opening import Node
from node.service import archive_desk, forms_of
from node.stages.assemble import Assembler
from node.stages.contour import Contourer
from node.stages.course import JobWatch
from node.stages.ports import Enqueue
from node.warm_models import WarmModels, opener


def _quiet(event: str, **fields: Any) -> None:
    pass


class Inline:
    """The stages' queue as a list in memory."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, tuple[Any, ...]]] = deque()

    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0, priority: int = 10) -> Enqueue:
        """Put the contouring of a job on the list."""
        return lambda _connection: self.waiting.append(("contour", (job, attempt)))

    def deliver(
        self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0, via: str | None = None
    ) -> Enqueue:
        """Put one try of a delivery on the list."""
        return lambda _connection: self.waiting.append(("deliver", (job, destination, attempt)))


def main() -> None:
    """Do what lies in the inbox, once for each line."""
    silence()
    node = Node(config=load(Path(sys.argv[1])))
    queue = Inline()
    assembler, stages = (
        _assembler(node, queue),
        {"contour": _contourer(node, queue), "deliver": deliverer(node.config, node.ledger, queue)},
    )
    for _ in sys.stdin:
        started = time.process_time()
        assembler.tick(time.time())
        while queue.waiting:
            stage, arguments = queue.waiting.popleft()
            stages[stage](*arguments)
        print(time.process_time() - started, flush=True)


def _assembler(node: Node, queue: Inline) -> Assembler:
    return Assembler(
        inbox=node.inbox,
        ledger=node.ledger,
        queue=queue,
        routes=[route.route() for route in node.config.routes],
        policy=node.config.completion.policy(),
        policies=node.config.policies(),
        archives=archive_desk(node.config),
        read_instance=read_file,
        log=_quiet,
    )


def _contourer(node: Node, queue: Inline) -> Callable[..., None]:
    return Contourer(
        ledger=node.ledger,
        queue=queue,
        results=ResultStore(node.data_dir),
        loader=lambda series_uid, files: dataset_loader(node.inbox.path(series_uid), files),
        open_model=WarmModels(node.models, opener(node.config.node), _quiet),
        forms=forms_of(node.config),
        software_version=__version__,
        watch=JobWatch(pulse=Pulse(node.pulse_path), now=time.time, steady=time.monotonic, timeout_s=float("inf")),
        log=_quiet,
    )


if __name__ == "__main__":
    main()
