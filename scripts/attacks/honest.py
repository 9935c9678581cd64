"""The honest sender beside every attack: `python -m scripts.attacks.honest PORT FILE`, a line in FILE for each C-STORE.

In a process of its own, so that the attackers' work does not slow it. Ends when its standard input ends.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.attacks.images import CT, ct_contexts, ct_image
from scripts.attacks.target import HONEST
from tests.wire import CT_IMAGE_STORAGE, Connection, store_message

# Longer than any answer should take, beside any attack; shorter than the patience of a real sender (30 s and more).
PATIENCE_S = 15.0
PER_ASSOCIATION = 20
PAUSE_S = 0.04
SIDE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of the honest sender's instances in a span of time."""

    stored: int
    # How each that was not stored ended.
    faults: tuple[str, ...]
    slowest_s: float


def read_since(file: Path, position: int) -> tuple[Sent, int]:
    """Read what was sent since a position in the file; gives the new position, too."""
    with file.open("rb") as lines:
        lines.seek(position)
        new = lines.read()
    whole = new[: new.rfind(b"\n") + 1]
    rows: list[Mapping[str, Any]] = [json.loads(line) for line in whole.splitlines()]
    return (
        Sent(
            stored=sum(row["fault"] is None for row in rows),
            faults=tuple(row["fault"] for row in rows if row["fault"] is not None),
            slowest_s=max((row["took_s"] for row in rows), default=0.0),
        ),
        position + len(whole),
    )


def main(port: int, file: Path) -> None:
    """Send until standard input ends."""
    told_to_stop = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        told_to_stop.set()

    threading.Thread(target=watch, daemon=True).start()
    image = ct_image(SIDE, patient_name="Honest^Patient")
    number = 0
    with file.open("a", encoding="utf-8", buffering=1) as log:
        while not told_to_stop.is_set():
            for fault, took_s in _association(port, image, number, told_to_stop):
                log.write(json.dumps({"fault": fault, "took_s": round(took_s, 4)}) + "\n")
            number += PER_ASSOCIATION


def _association(port: int, image: CT, first: int, told_to_stop: threading.Event) -> Iterator[tuple[str | None, float]]:
    """Send a few instances in an association of their own; gives how each ended and how long it took."""
    started = time.perf_counter()
    try:
        with Connection(port, timeout_s=PATIENCE_S) as caller:
            accepted = caller.associate(ct_contexts(), calling=HONEST)
            for number in range(first, first + PER_ASSOCIATION):
                one = image.renamed(number)
                caller.send(
                    store_message(1, CT_IMAGE_STORAGE, one.sop_instance_uid, one.data_set, accepted.maximum_length)
                )
                status = caller.status()
                took_s = time.perf_counter() - started
                yield None if status == 0 else f"refused with {status:04X}", took_s
                if told_to_stop.wait(PAUSE_S):
                    break
                started = time.perf_counter()
            caller.release()
    except OSError as error:
        how = f"{type(error).__name__}: {error}"
        yield how, time.perf_counter() - started
        # Not as fast as it fails.
        told_to_stop.wait(0.2)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
