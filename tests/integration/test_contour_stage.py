"""One job of the contouring stage, with the shipped model: every way it can end, and what is kept."""

import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

import node.results
from node.adapters.model_store import ModelStore
from node.adapters.onnx_session import OnnxPredictor, open_predictor
from node.adapters.profile_store import load_profile
from node.domain.errors import InputError, NodeError, ResourceError, SetupError, StorageError, VerificationError
from node.domain.forms import Form
from node.domain.jobs import JobState, TransitionError
from node.domain.profiles import Profile
from node.domain.series import manifest_to_json
from node.inference.predictor import HalfFirst
from node.resources import shipped
from node.stages.contour import Contourer, OpenModel
from node.stages.course import JobWatch
from node.stages.setbacks import MOST_SETBACKS, RESOURCE_ATTEMPTS
from tests.acceptance.test_kill import phantom
from tests.builders import manifest_of

JOB = "1.2.3/ffff/body-bones/1"
SECRET = "DOE^JANE"


class World:
    """A ledger, a queue, a result store and an inbox in memory."""

    def __init__(self, attempt: int = 1, state: JobState = JobState.QUEUED) -> None:
        self.datasets = {str(dataset.SOPInstanceUID): dataset for dataset in phantom("stage", slices=8)}
        self.body = manifest_to_json(manifest_of(list(self.datasets.values())))
        self.row: dict[str, Any] = {
            "job": JOB,
            "series_uid": "1.2.3",
            "fingerprint": "f",
            "channels": [],
            "model": "body-bones",
            "outputs": ["rtstruct", "seg"],
            "destinations": ["tps", "archive"],
            "run_number": 1,
            "attempt": attempt,
            "tries": 0,
            "priority": 10,
            "state": state,
            "setbacks": [],
            "created_at": 1_700_000_000.0,
            "updated_at": 1_700_000_000.0,
        }
        self.states: list[JobState] = []
        self.enqueued: list[Any] = []
        self.written: dict[str, bytes] = {}
        self.outputs: list[Any] = []
        self.offers: Mapping[str, Any] = {}
        self.lines: list[str] = []
        self.beats: list[str] = []
        self.told: list[str] = []
        self.steady_s = 0.0
        self.taken_back = False

    def contourer(
        self,
        *,
        open_model: Callable[[str], OpenModel] | None = None,
        load: Callable[[str], Dataset] | None = None,
        profile: Profile | None = None,
        timeout_s: float = float("inf"),
    ) -> Contourer:
        return Contourer(
            ledger=self,
            queue=self,
            results=self,
            loader=lambda *_: load or self.datasets.__getitem__,
            open_model=open_model or opened,
            forms=lambda names: dict.fromkeys(names, Form(profile=profile or load_profile("generic"))),
            software_version="0",
            watch=JobWatch(
                pulse=self,
                now=lambda: 1_700_000_010.0,
                steady=lambda: self.steady_s,
                timeout_s=timeout_s,
                tell_every_s=0.01,
            ),
            log=lambda event, **fields: self.lines.append(f"{event} {fields}"),
        )

    # the ledger
    def job(self, job: str) -> dict[str, Any] | None:
        return dict(self.row) if job == JOB else None

    def manifest(self, series_uid: str, fingerprint: str) -> dict[str, Any]:
        return self.body

    def move_job(self, job: str, state: JobState, **facts: Any) -> None:
        if self.taken_back and state != JobState.CONTOURING:
            raise TransitionError(f"job {job} cannot become {state}")
        self.states.append(state)
        self.row |= {"state": state, **facts}

    def begin_job(self, job: str, attempt: int) -> None:
        self.move_job(job, JobState.CONTOURING)

    def note_progress(self, job: str, progress: str) -> None:
        self.told.append(progress)

    def is_contoured(self, job: str, attempt: int) -> bool:
        return not self.taken_back

    def postpone_job(self, job: str, facts: Any, enqueue: Any) -> None:
        self.move_job(job, JobState.WAITING, **facts)
        enqueue(self.enqueued)

    def finish_job(self, job: str, facts: Any, outputs: Sequence[Any], offers: Mapping[str, Any], enqueue: Any) -> None:
        self.move_job(job, JobState.CONTOURED, **facts)
        self.outputs = list(outputs)
        self.offers = offers
        enqueue(self.enqueued)

    # the pulse
    def beat(self, doing: str, job: str = "", attempt: int = 0) -> None:
        assert (job, attempt) == (JOB, self.row["attempt"])
        self.beats.append(doing)

    def rest(self) -> None:
        self.beats.append("")

    # the queue
    def contour(self, job: str, *, attempt: int = 1, delay_s: float = 0.0, priority: int = 10) -> Callable[[Any], None]:
        return lambda transaction: transaction.append(("contour", attempt))

    def deliver(
        self, job: str, destination: str, *, attempt: int = 1, delay_s: float = 0.0, via: str | None = None
    ) -> Callable[[Any], None]:
        return lambda transaction: transaction.append(("deliver", destination))

    # the result store
    def require_room(self) -> None:
        pass

    def write(self, job: str, name: str, written: bytes) -> dict[str, str]:
        self.written[name] = written
        return {"path": f"results/{name}", "sha256": "0"}

    def remove(self, path: str) -> None:
        del self.written[path.removeprefix("results/")]


def opened(name: str) -> OpenModel:
    loaded = ModelStore([shipped("models")]).load(name)
    return OpenModel(package=loaded.package, predictor=open_predictor(loaded, "cpu", threads=1))


def failing(error: Exception) -> Callable[[str], Any]:
    def fail(_: str) -> Any:
        raise error

    return fail


def test_a_job_ends_with_its_objects_stored_and_its_deliveries_enqueued() -> None:
    world = World()

    world.contourer()(JOB, 1)

    assert world.states == [JobState.CONTOURING, JobState.CONTOURED]
    assert set(world.written) == {"rtstruct-generic-binary.dcm", "seg-binary.dcm"}
    assert [output["kind"] for output in world.outputs] == ["rtstruct", "seg"]
    both = tuple(output["sop_instance_uid"] for output in world.outputs)
    assert world.offers == {"tps": (both,), "archive": (both,)}
    assert world.enqueued == [("deliver", "tps"), ("deliver", "archive")]
    assert {one["name"] for one in world.row["report"]["structures"]} == {"Body", "Bone"}
    assert world.row["report"]["computed_by"].startswith("CPUExecutionProvider")


def test_a_result_says_that_its_network_ran_again_in_float32() -> None:
    class Overflowing:
        computed_by = "float16"

        def predict(self, network_input: NDArray[np.float32]) -> NDArray[np.float32]:
            classes = exact.package.output.classes
            return np.full((1, classes, *network_input.shape[2:]), np.inf, dtype=np.float32)

    exact = opened("body-bones")
    assert isinstance(exact.predictor, OnnxPredictor)
    network = exact.predictor
    both = OpenModel(package=exact.package, predictor=HalfFirst(half=Overflowing(), exact=lambda: network))
    world = World()

    world.contourer(open_model=lambda _: both)(JOB, 1)

    assert world.row["report"]["computed_by"] == network.computed_by
    assert any("the network ran again, in float32" in note for note in world.row["report"]["notes"])
    assert b"CPUExecutionProvider" in world.written["rtstruct-generic-binary.dcm"]


def test_a_job_done_again_makes_the_same_bytes() -> None:
    first, second = World(), World()

    first.contourer()(JOB, 1)
    second.contourer()(JOB, 1)

    assert first.written == second.written


def test_another_try_never_writes_over_what_the_one_before_may_still_write() -> None:
    first, second = World(), World(attempt=2, state=JobState.WAITING)

    first.contourer()(JOB, 1)
    second.contourer()(JOB, 2)

    assert first.written.keys().isdisjoint(second.written)
    assert sorted(first.written.values()) == sorted(second.written.values())


@pytest.mark.parametrize("state", [JobState.CONTOURED, JobState.DECLINED, JobState.FAILED, JobState.QUARANTINED])
def test_a_job_that_has_ended_is_left_alone(state: JobState) -> None:
    world = World(state=state)

    world.contourer()(JOB, 1)

    assert world.states == []


def test_an_attempt_that_is_over_does_nothing() -> None:
    world = World(attempt=3, state=JobState.WAITING)

    world.contourer()(JOB, 2)

    assert world.states == []


def test_a_job_that_somebody_cancels_ends_at_its_next_step_without_a_word_in_the_ledger() -> None:
    world = World()
    enough = threading.Event()

    def load(uid: str) -> Dataset:
        world.taken_back = True
        # The teller looks every hundredth of a second; each step waits for it a little.
        enough.wait(0.05)
        return world.datasets[uid]

    world.contourer(load=load)(JOB, 1)

    assert world.states == [JobState.CONTOURING]
    assert world.beats[-2].startswith("read")
    assert not world.written
    assert world.enqueued == []
    assert any(line.startswith("job was taken back") for line in world.lines)


def test_a_job_that_is_cancelled_at_its_last_step_delivers_nothing() -> None:
    world = World()
    write = world.write

    def cancelled_meanwhile(job: str, name: str, written: bytes) -> dict[str, str]:
        world.taken_back = True
        return write(job, name, written)

    world.write = cancelled_meanwhile  # type: ignore[method-assign]

    world.contourer()(JOB, 1)

    assert world.states == [JobState.CONTOURING]
    assert world.enqueued == []
    assert not world.written
    assert any(line.startswith("job was taken back") for line in world.lines)


def test_images_that_cannot_be_read_decline_the_job() -> None:
    world = World()

    world.contourer(load=failing(InputError("instance 1.2.3.4 is cut off")))(JOB, 1)

    assert world.states == [JobState.CONTOURING, JobState.DECLINED]
    assert world.row["reason"] == "instance 1.2.3.4 is cut off"


@pytest.mark.parametrize("attempt", [1, 50])
def test_a_fault_of_the_set_up_waits_until_it_is_mended(attempt: int) -> None:
    world = World(attempt=attempt, state=JobState.WAITING)

    world.contourer(open_model=failing(SetupError("the hash differs")))(JOB, attempt)

    assert world.row["state"] == JobState.WAITING
    assert world.row["reason"] == "the hash differs"
    assert world.enqueued == [("contour", attempt + 1)]


@pytest.mark.parametrize("error", [ResourceError("no memory"), MemoryError(), FileNotFoundError(2, "No such file")])
@pytest.mark.parametrize("attempt", [1, 99])
def test_a_lack_of_memory_is_tried_again_a_number_of_times_whatever_else_was_waited_for(
    error: Exception, attempt: int
) -> None:
    first, last = (World(attempt=attempt, state=JobState.WAITING) for _ in range(2))
    last.row["tries"] = RESOURCE_ATTEMPTS - 1

    first.contourer(open_model=failing(error))(JOB, attempt)
    last.contourer(open_model=failing(error))(JOB, attempt)

    assert (first.row["state"], first.row["tries"]) == (JobState.WAITING, 1)
    assert first.enqueued == [("contour", attempt + 1)]
    assert (last.row["state"], last.row["tries"]) == (JobState.FAILED, RESOURCE_ATTEMPTS)
    assert last.row["reason"].endswith(f"({RESOURCE_ATTEMPTS} tries)")


@pytest.mark.parametrize("attempt", [1, RESOURCE_ATTEMPTS, 999])
@pytest.mark.parametrize("what", ["require_room", "write"])
@pytest.mark.parametrize(
    "full", [StorageError("The disk is low."), OSError(28, "No space left"), OSError(122, "Quota")]
)
def test_a_full_disk_is_waited_for_without_limit_and_counts_as_no_try(
    attempt: int, what: str, full: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(attempt=attempt, state=JobState.WAITING)
    world.row["tries"] = RESOURCE_ATTEMPTS - 1

    def fail(*_: Any) -> dict[str, str]:
        raise full

    monkeypatch.setattr(world, what, fail)
    world.contourer()(JOB, attempt)

    assert (world.row["state"], world.row["tries"]) == (JobState.WAITING, RESOURCE_ATTEMPTS - 1)
    assert world.row["reason"]
    assert world.enqueued == [("contour", attempt + 1)]


def test_a_job_does_no_work_whose_result_would_find_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def full() -> None:
        raise StorageError("The disk is low.")

    monkeypatch.setattr(world, "require_room", full)
    world.contourer(load=failing(AssertionError("nothing is to be read")))(JOB, 1)

    assert world.row["state"] == JobState.WAITING
    assert world.beats == [""]


def test_a_try_that_ended_its_process_is_made_again_with_the_reason_kept() -> None:
    world = World(attempt=4, state=JobState.CONTOURING)

    world.contourer().set_back(JOB, 4, "The process ended (signal 11, SIGSEGV) while at: predict 3 of 64.")

    assert world.row["state"] == JobState.WAITING
    assert world.row["reason"] == "The process ended (signal 11, SIGSEGV) while at: predict 3 of 64."
    assert world.row["setbacks"] == [{"attempt": 4, "reason": world.row["reason"], "at": 1_700_000_010.0}]
    assert world.enqueued == [("contour", 5)]


def test_after_the_last_setback_the_job_fails_with_the_reason_and_the_number() -> None:
    world = World(attempt=7, state=JobState.CONTOURING)
    world.row["setbacks"] = [{"attempt": 2, "reason": "a", "at": 1.0}, {"attempt": 5, "reason": "b", "at": 2.0}]

    world.contourer().set_back(JOB, 7, "No progress for 900 s while at: predict 3 of 64.")

    assert MOST_SETBACKS == 3
    assert world.row["state"] == JobState.FAILED
    assert world.row["reason"] == "No progress for 900 s while at: predict 3 of 64. Given up after 3 such tries."
    assert [one["attempt"] for one in world.row["setbacks"]] == [2, 5, 7]
    assert world.enqueued == []


@pytest.mark.parametrize("state", [one for one in JobState if one != JobState.CONTOURING])
def test_a_try_that_had_an_end_before_its_process_had_is_no_setback(state: JobState) -> None:
    world = World(attempt=1, state=state)

    world.contourer().set_back(JOB, 1, "The process ended (exit status 1) while at: store.")

    assert world.states == []


def test_a_process_that_ended_at_another_try_is_no_setback_of_this_one() -> None:
    world = World(attempt=2, state=JobState.CONTOURING)

    world.contourer().set_back(JOB, 1, "The process ended (exit status 1) while at: store.")

    assert world.states == []


def test_a_try_that_takes_too_long_ends_at_its_next_step_and_is_made_again() -> None:
    world = World()

    def slowly(name: str) -> OpenModel:
        world.steady_s += 61.0
        return opened(name)

    world.contourer(open_model=slowly, timeout_s=60.0)(JOB, 1)

    assert world.row["state"] == JobState.WAITING
    assert world.row["reason"] == "Not done within 60 s (contouring.timeout_s), when it was at: inference."
    assert world.enqueued == [("contour", 2)]
    assert world.beats[-1] == ""


def test_what_a_phase_took_is_told_by_a_clock_that_nobody_puts_right() -> None:
    world = World()

    def slowly(name: str) -> OpenModel:
        world.steady_s += 61.0
        return opened(name)

    world.contourer(open_model=slowly)(JOB, 1)

    assert world.row["timings"]["model"] == 61.0


def test_every_step_of_a_job_reaches_the_pulse_and_then_it_rests() -> None:
    world = World()

    world.contourer()(JOB, 1)

    assert world.beats[:3] == ["read", "read 0 of 8", "read 1 of 8"]
    assert "predict 0 of 8 (inference)" in world.beats
    assert {"model", "inference", "contours", "rtstruct", "seg", "store"} <= set(world.beats)
    assert world.beats[-1] == ""
    assert "" not in world.beats[:-1]


class FakeSlot:
    """An accelerator that another process uses for a while; notes what happens meanwhile."""

    def __init__(self, world: World, busy: int) -> None:
        self.world = world
        self.busy = busy
        self.events: list[str] = []

    def take(self) -> bool:
        self.world.steady_s += 50.0
        self.busy -= 1
        self.events.append(f"asked after {self.world.beats[-1]}")
        return self.busy < 0

    def give_back(self) -> None:
        self.events.append(f"given back after {self.world.beats[-1]}")


def test_the_accelerator_is_held_while_the_network_runs_and_only_then() -> None:
    world = World()
    slot = FakeSlot(world, busy=0)

    world.contourer(open_model=lambda name: replace(opened(name), slot=slot))(JOB, 1)

    assert slot.events == ["asked after model", "given back after tidy 1 of 1 (inference)"]


def test_waiting_for_the_accelerator_is_told_and_is_no_overtime() -> None:
    world = World()
    slot = FakeSlot(world, busy=2)

    world.contourer(open_model=lambda name: replace(opened(name), slot=slot), timeout_s=60.0)(JOB, 1)

    waiting = "waits for the accelerator, which another process uses"
    assert slot.events[:3] == ["asked after model", f"asked after {waiting}", f"asked after {waiting}"]
    assert world.row["state"] == JobState.CONTOURED


def test_the_accelerator_is_given_back_when_the_network_fails() -> None:
    world = World()
    slot = FakeSlot(world, busy=0)

    class Failing:
        computed_by = "nowhere"

        def predict(self, _: Any) -> Any:
            raise ResourceError("no memory")

    world.contourer(open_model=lambda name: replace(opened(name), slot=slot, predictor=Failing()))(JOB, 1)

    assert world.row["state"] == JobState.WAITING
    assert slot.events[1:] == ["given back after predict 0 of 8 (inference)"]


def test_a_person_is_told_what_is_done_without_the_network_waiting_for_the_ledger() -> None:
    world = World()
    asked = threading.Event()

    class Slow:
        computed_by = "nowhere"

        def predict(self, values: Any) -> Any:
            assert asked.wait(10), "nobody was told"
            raise ResourceError("enough")

    def told(job: str, progress: str) -> None:
        world.told.append(progress)
        if "predict" in progress:
            asked.set()

    world.note_progress = told  # type: ignore[method-assign]
    world.contourer(open_model=lambda name: replace(opened(name), predictor=Slow()))(JOB, 1)

    assert world.told[-1] == "predict 0 of 8 (inference)"


def test_a_fault_of_ours_fails_the_job_and_quotes_nothing() -> None:
    world = World()

    world.contourer(load=failing(ValueError(f"invalid literal: {SECRET}")))(JOB, 1)

    assert world.row["state"] == JobState.FAILED
    assert "ValueError" in world.row["reason"]
    said = world.row["reason"] + " ".join(world.lines)
    assert SECRET not in said
    assert "test_contour_stage.py" in said


def test_an_object_that_fails_its_check_is_kept_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_fault(*_: Any, **__: Any) -> None:
        raise VerificationError("Body differs from the label map in 7 voxels.")

    monkeypatch.setattr(node.results, "verify_rtstruct", find_fault)
    world = World()

    world.contourer()(JOB, 1)

    assert world.row["state"] == JobState.QUARANTINED
    assert "7 voxels" in world.row["reason"]
    assert "quarantined-rtstruct-generic-binary.dcm" in world.row["reason"]
    assert dcmread(BytesIO(world.written["quarantined-rtstruct-generic-binary.dcm"])).Modality == "RTSTRUCT"
    assert world.enqueued == []
    assert world.outputs == []


def test_what_a_profile_s_drawing_would_lose_fails_the_job_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_draw(*_: object) -> None:
        raise VerificationError("A contour of Bone has fewer than 100 points left when rounded to 2 decimals of a mm.")

    monkeypatch.setattr(node.results, "build_structures", cannot_draw)
    world = World()

    world.contourer()(JOB, 1)

    assert world.states[-1] is JobState.FAILED
    assert world.row["reason"].startswith("A contour of Bone has fewer than 100 points")
    assert world.offers == {}


def test_every_rename_and_omission_is_logged_with_its_reason() -> None:
    def with_another_structure(name: str) -> OpenModel:
        model = opened(name)
        body, bone = model.package.structures
        structures = (replace(body, name="Body+Skin"), bone, replace(bone, name="Implant", label_values=(9,)))
        return replace(model, package=replace(model.package, structures=structures, gates=()))

    world = World()
    profile = load_profile("strict16")

    world.contourer(open_model=with_another_structure, profile=profile)(JOB, 1)

    (renamed,) = [line for line in world.lines if line.startswith("renamed")]
    (omitted,) = [line for line in world.lines if line.startswith("omitted")]
    assert "'structure': 'Body+Skin', 'name': 'Body_Skin'" in renamed
    assert "'profile': 'strict16'" in renamed
    assert "the receiver's names lack some of its characters" in renamed
    assert "'name': 'Implant'" in omitted
    assert "found no voxel" in omitted


def test_a_series_of_another_modality_than_the_model_s_is_declined() -> None:
    world = World()
    world.body = {**world.body, "modality": "MR"}

    world.contourer()(JOB, 1)

    assert world.row["state"] == JobState.DECLINED
    assert "MR" in world.row["reason"]


def test_errors_keep_their_remedy_across_processes() -> None:
    error = pickle.loads(pickle.dumps(SetupError("wrong", "mend it")))

    assert isinstance(error, NodeError)
    assert (error.reason, error.remedy) == ("wrong", "mend it")
