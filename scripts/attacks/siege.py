"""Lets behaviours act on the target one after the other, beside an honest sender, and judges what each did."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from scripts.attacks.honest import PATIENCE_S, Sent, read_since
from scripts.attacks.images import ct_contexts, ct_image
from scripts.attacks.scene import PDU_BYTES, Outcome, Scene
from scripts.attacks.target import HONEST, NotStartedError, Peak, VitalSigns
from tests.wire import CT_IMAGE_STORAGE, Connection, echo_message, store_message

# Above what the receiver takes at rest: while it is attacked, and afterwards. Associations at work are allowed their
# buffers, and the C library keeps an arena for as many threads as there ever were at once.
PEAK_MIB, LEFT_MIB = 160.0, 96.0
LEFT_THREADS = 6
# As many as the pool of database connections may grow to.
LEFT_DESCRIPTORS = 30
# How long the receiver may take to be as it was before.
SETTLE_S, CALM_LOOKS = 10.0, 2
# Of an attack: each of its connections may log that it came, what was wrong, and that it ended.
LINES_EACH, LINES_FREE = 4, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one behaviour did."""

    behaviour: str
    connections: int
    messages: int
    answered: int
    refused: int
    held: int
    memory_mib: float
    peak_memory_mib: float
    threads: int
    peak_threads: int
    descriptors: int
    peak_descriptors: int
    log_lines: int
    honest_stored: int
    slowest_honest_s: float
    took_s: float
    harm: tuple[str, ...]

    @property
    def survived(self) -> bool:
        """Tell whether it did no harm."""
        return not self.harm


class Siege:
    """The honest sender at work, and the measure of the receiver at rest."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._target = scene.target
        self._file = self._target.folder / "honest.jsonl"
        self._position = 0
        self._lines = 0
        self._calm = VitalSigns(memory_mib=0, threads=0, descriptors=0)
        self._honest: subprocess.Popen[bytes] | None = None
        self._probe = ct_image(64, patient_name="Honest^Probe")

    def __enter__(self) -> Self:
        self._file.touch()
        command = [sys.executable, "-m", "scripts.attacks.honest", str(self._target.port), str(self._file)]
        self._honest = subprocess.Popen(command, stdin=subprocess.PIPE)
        time.sleep(4.0)
        self._take_measure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._honest is not None and self._honest.stdin is not None:
            self._honest.stdin.close()
            self._honest.wait(30)

    def _take_measure(self) -> None:
        signs = self._target.vital_signs()
        if signs is None:
            raise NotStartedError(f"The receiver ended before the first attack:\n{self._target.log[-2000:]}")
        self._calm = signs
        _, self._position = read_since(self._file, self._position)

    def suffer(self, name: str, behaviour: Callable[[Scene], Outcome]) -> Verdict:
        """Let one behaviour act, wait until the receiver has recovered, and judge."""
        started = time.monotonic()
        with Peak(self._target.vital_signs) as peak:
            try:
                outcome = behaviour(self._scene)
            except OSError as error:
                outcome = Outcome(connections=0, faults=(f"attackers were not let near: {type(error).__name__}",))
            took_s = time.monotonic() - started
            self._wait_for_honest_sender()
            harm = [*outcome.faults, *self._ability()]
            self._settle()
        verdict = self._judge(name, outcome, harm, peak.signs, took_s)
        if not self._target.is_alive():
            self._target.start()
            time.sleep(2.0)
            self._take_measure()
        return verdict

    def aftermath(self) -> Verdict:
        """Judge what is left when all is over: the receiver must be as before the first attack."""
        return self.suffer("afterwards", lambda _: Outcome(connections=0))

    def _settle(self) -> None:
        """Wait until the receiver is as it was: at two looks, for what was torn off may not have been noticed yet."""
        deadline, calm = time.monotonic() + SETTLE_S, 0
        while calm < CALM_LOOKS and time.monotonic() < deadline and self._target.is_alive():
            time.sleep(0.2)
            signs = self._target.vital_signs()
            calm = calm + 1 if signs is not None and not list(self._left(signs)) else 0

    def _left(self, signs: VitalSigns) -> Iterator[str]:
        calm = self._calm
        if signs.threads > calm.threads + LEFT_THREADS:
            yield f"{signs.threads - calm.threads} threads are left"
        if signs.descriptors > calm.descriptors + LEFT_DESCRIPTORS:
            yield f"{signs.descriptors - calm.descriptors} descriptors are left"
        if signs.memory_mib > calm.memory_mib + LEFT_MIB:
            yield f"{signs.memory_mib - calm.memory_mib:.0f} MiB are left"

    def _judge(self, name: str, outcome: Outcome, harm: list[str], peak: VitalSigns, took_s: float) -> Verdict:
        signs = self._target.vital_signs()
        if signs is None:
            harm.insert(0, f"the receiver ended {self._target.how_it_ended()}")
            signs = VitalSigns(memory_mib=0, threads=0, descriptors=0)
        harm += self._left(signs)
        if peak.memory_mib > self._calm.memory_mib + PEAK_MIB:
            harm.append(f"memory rose by {peak.memory_mib - self._calm.memory_mib:.0f} MiB")
        harm += self._leftovers()
        lines = self._new_lines()
        attempts = outcome.connections + outcome.messages
        if len(lines) > LINES_EACH * attempts + LINES_FREE:
            harm.append(f"{len(lines)} log lines for {attempts} attempts")
        # The last line of one tells what the attackers' bytes made of it: a fault of ours, and perhaps a quotation.
        if tracebacks := sum("Traceback" in line for line in lines):
            harm.append(f"{tracebacks} tracebacks in the log")
        sent, self._position = read_since(self._file, self._position)
        harm += _wrongs_done_to(sent)
        return Verdict(
            behaviour=name,
            connections=outcome.connections,
            messages=outcome.messages,
            answered=outcome.answered,
            refused=outcome.refused,
            held=outcome.held,
            memory_mib=signs.memory_mib,
            peak_memory_mib=max(peak.memory_mib, signs.memory_mib),
            threads=signs.threads,
            peak_threads=max(peak.threads, signs.threads),
            descriptors=signs.descriptors,
            peak_descriptors=max(peak.descriptors, signs.descriptors),
            log_lines=len(lines),
            honest_stored=sent.stored,
            slowest_honest_s=sent.slowest_s,
            took_s=round(took_s, 2),
            harm=tuple(harm),
        )

    def _wait_for_honest_sender(self) -> None:
        """Wait until it has something to tell, also of an attack that was over before its next instance."""
        deadline = time.monotonic() + PATIENCE_S
        while self._file.stat().st_size == self._position and time.monotonic() < deadline:
            time.sleep(0.05)

    def _ability(self) -> Iterator[str]:
        """Ask for an echo and a store, as anybody would afterwards."""
        try:
            with Connection(self._target.port, timeout_s=PATIENCE_S) as caller:
                caller.associate(ct_contexts(), calling=HONEST)
                caller.send(echo_message(3))
                if caller.status() != 0x0000:
                    yield "an echo was refused afterwards"
                probe = self._probe
                caller.send(store_message(1, CT_IMAGE_STORAGE, probe.sop_instance_uid, probe.data_set, PDU_BYTES))
                if caller.status() != 0x0000:
                    yield "a store was refused afterwards"
                caller.release()
        except OSError as error:
            yield f"it did not serve afterwards ({error or type(error).__name__})"

    def _leftovers(self) -> Iterator[str]:
        first = self._target.unfinished_files()
        # One that the honest sender has under way is gone a moment later.
        time.sleep(0.3)
        left = first & self._target.unfinished_files()
        if left:
            yield f"{len(left)} unfinished files are left"
        yield from self._target.exposures()

    def _new_lines(self) -> Sequence[str]:
        lines = self._target.attack_lines()
        new, self._lines = lines[self._lines :], len(lines)
        return new


def _wrongs_done_to(sent: Sent) -> Iterator[str]:
    if sent.faults:
        yield f"the honest sender failed {len(sent.faults)} times ({sent.faults[0]})"
    elif not sent.stored:
        yield "the honest sender came to nothing"
