"""Inference that crashes or hangs ends its own process only: the job is tried again, then fails with its reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from node.adapters.storage_scu import store
from tests.acceptance.running import RunningNode, run_delineate
from tests.acceptance.test_kill import phantom
from tests.builders import save_series
from tests.fakes import FakeDestination

# Imported by every Python process of the node before anything else: where the contouring one runs its network on a
# volume of 16 slices or more, it does first what the next line of a file says.
HOOK = """
import sys
if sys.orig_argv[-1:] == ["contourer"]:
    import ctypes, os, pathlib, signal, time
    import node.adapters.onnx_session as adapter
    plan = pathlib.Path(__file__).with_name("mischief")
    predict = adapter.OnnxPredictor.predict

    def next_mischief():
        line, _, rest = plan.read_text().partition("\\n")
        plan.write_text(rest)
        return line

    def misbehave(self, network_input):
        if network_input.shape[2] == 16:
            exec(next_mischief())
        return predict(self, network_input)

    adapter.OnnxPredictor.predict = misbehave
"""
HANGS_WHEN_OPENED = """
    if plan.read_text():
        plan.write_text("")
        adapter.open_predictor = lambda *_, **__: ctypes.PyDLL(None).sleep(1000)
"""
HANGS_BEFORE = """
    import node.warm_models
    if plan.read_text():
        plan.write_text("")
        node.warm_models.opener = lambda *_: ctypes.PyDLL(None).sleep(1000)
"""

# Longer than any step of an honest job takes on a busy machine.
CONTOURING = """
[contouring]
stall_s = 30
"""
STALLED = "No progress for 30 s (contouring.stall_s)"
PATIENCE_S = 240.0
PREDICTING = "predict 0 of 31 (inference)"


class Mischief:
    """What the networks of a node do before their work."""

    def __init__(self, folder: Path) -> None:
        self.plan = folder / "mischief"
        self.hook = folder / "sitecustomize.py"
        self.plan.write_text("")
        self.hook.write_text(HOOK)

    def will(self, code: str, times: int = 1) -> None:
        """Let the next runs of a network do this."""
        self.plan.write_text(f"{code}\n" * times)

    @property
    def left(self) -> int:
        """Count what was not done yet."""
        return self.plan.read_text().count("\n")


@pytest.fixture
def mischief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mischief:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    return Mischief(tmp_path)


def node_in(folder: Path, tps: FakeDestination) -> RunningNode:
    return RunningNode(folder, destination_port=tps.address.port, more=CONTOURING)


def send(node: RunningNode, name: str, slices: int = 31) -> str:
    """Send a phantom; gives its series."""
    datasets = phantom(name, slices=slices)
    store(node.address, save_series(datasets, node.folder / name), calling_ae_title="CT1")
    return str(datasets[0].SeriesInstanceUID)


def job_of(series: str, status: dict[str, Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = [job for job in status["jobs"] if job["series_uid"] == series]
    return found[0] if found else {"state": "none", "progress": ""}


def is_predicting(series: str) -> Callable[[dict[str, Any]], bool]:
    return lambda status: job_of(series, status)["progress"] == PREDICTING


def test_a_job_that_always_ends_its_process_fails_and_the_jobs_behind_it_go_on(
    tmp_path: Path, mischief: Mischief
) -> None:
    mischief.will("ctypes.string_at(0)", times=100)

    with FakeDestination() as tps, node_in(tmp_path, tps) as node:
        others = [psutil.Process(node.pid_of(role)) for role in ("receiver", "dispatcher")]
        poison, good = send(node, "poison"), send(node, "good", slices=12)
        status = node.wait_until(lambda now: job_of(poison, now)["state"] == "failed", PATIENCE_S)
        delivered = node.wait_until_delivered(within_s=PATIENCE_S)

        assert all(process.is_running() for process in others)
        told = run_delineate("status", "--config", str(node.config_path)).stdout
    reason = f"The process ended (signal 11, SIGSEGV) while at: {PREDICTING}."
    job = job_of(poison, status)
    assert job["reason"] == f"{reason} Given up after 3 such tries."
    assert [(one["attempt"], one["reason"]) for one in job["setbacks"]] == [(1, reason), (2, reason), (3, reason)]
    assert job["reason"] in told
    assert mischief.left == 97
    # It had to wait for one try, not for three.
    done = job_of(good, delivered)
    assert (done["state"], done["setbacks"]) == ("contoured", [])
    assert done["updated_at"] < job["updated_at"]


VIOLENCE = {
    "os.kill(os.getpid(), signal.SIGKILL)": "The process ended (signal 9, SIGKILL; so the system",
    "os._exit(0)": "The process ended (exit status 0)",
    # Native code that never lets go of the interpreter.
    "ctypes.PyDLL(None).sleep(1000)": STALLED,
    "os.kill(os.getpid(), signal.SIGSTOP)": STALLED,
}


@pytest.mark.timeout(600)
def test_jobs_whose_process_ended_once_are_contoured_and_say_so(tmp_path: Path, mischief: Mischief) -> None:
    with FakeDestination() as tps, node_in(tmp_path, tps) as node:
        for number, (code, how) in enumerate(VIOLENCE.items(), start=1):
            mischief.will(code)
            series = send(node, f"unlucky-{number}")
            job = job_of(series, node.wait_until_delivered(number, within_s=PATIENCE_S))

            assert (job["state"], job["reason"], job["attempt"]) == ("contoured", "", 2)
            (setback,) = job["setbacks"]
            assert setback["reason"].startswith(how)
            assert setback["reason"].endswith(f" while at: {PREDICTING}.")


def test_a_job_at_work_is_shown_with_its_age_and_a_stop_of_the_node_sets_it_back_by_nothing(
    tmp_path: Path, mischief: Mischief
) -> None:
    mischief.will("time.sleep(25)")

    with FakeDestination() as tps, node_in(tmp_path, tps) as node:
        series = send(node, "stopped")
        status = node.wait_until(is_predicting(series), PATIENCE_S)
        told = run_delineate("status", "--config", str(node.config_path)).stdout
        assert node.stop() == 0
        node.start()
        after = node.wait_until_delivered(within_s=PATIENCE_S)

    assert job_of(series, status)["progress_at"] >= job_of(series, status)["updated_at"]
    assert f": contouring: {PREDICTING}, " in told
    assert (job_of(series, after)["attempt"], job_of(series, after)["setbacks"]) == (1, [])


@pytest.mark.parametrize("hangs", [HANGS_WHEN_OPENED, HANGS_BEFORE])
def test_a_process_that_hangs_at_its_start_is_started_anew(tmp_path: Path, mischief: Mischief, hangs: str) -> None:
    mischief.will("pass")
    mischief.hook.write_text(HOOK + hangs)

    with FakeDestination() as tps, node_in(tmp_path, tps) as node:
        series = send(node, "patient")
        status = node.wait_until_delivered(within_s=PATIENCE_S)

        assert "process hangs" in node.log
    assert job_of(series, status)["setbacks"] == []
