"""``delineate demo``: a node, a scanner and a planning system on this machine, and the true story of one series."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ImplicitVRLittleEndian
from rich.console import Console
from rich.markup import escape

from node import DISCLAIMER
from node.adapters.dicom_files import dataset_loader
from node.adapters.scp_settings import ReceiverSettings
from node.adapters.storage_scp import Receiver
from node.adapters.storage_scu import echo, store
from node.config import Config, load
from node.demo.phantom import Scan, WrittenCT, write_planning_ct
from node.demo.picture import draw, structures_from_rtstruct
from node.domain.arrival import Arrival, Fragment, StoreAnswer, StoredInstance, Unobserved
from node.domain.delivery import PeerAddress
from node.domain.errors import NodeError, PeerError
from node.domain.jobs import DeliveryState, JobState, SeriesState
from node.domain.peers import AssociationPolicy
from node.domain.series import manifest_from_json
from node.log import silence
from node.opening import Node
from node.stages.contour import read_series
from node.status import status_of

RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"

_CONFIGURATION = """\
# Written by `delineate demo`.
[node]
port = {port}
data_dir = "{data_dir}"
minimum_free_gb = 0.5

[completion]
# The demonstration's scanner is new to the node, and known to send a series in one association.
new_senders = "settle"

[[destinations]]
name = "tps"
ae_title = "TPS"
host = "127.0.0.1"
port = {destination_port}

[[routes]]
name = "planning-ct"
when = {{ Modality = "CT" }}
models = ["body-bones"]
outputs = ["rtstruct", "seg"]
destinations = ["tps"]
"""

_START_WITHIN_S = 60.0
_DELIVER_WITHIN_S = 300.0


class PlanningSystem:
    """A destination that keeps what it receives in memory, with the time."""

    def __init__(self) -> None:
        # SOP Class UID -> (seconds since the epoch, data set).
        self.received: dict[str, tuple[float, Dataset]] = {}
        settings = ReceiverSettings(
            host="127.0.0.1",
            port=0,
            association=AssociationPolicy(ae_title="TPS"),
            storage_classes={RTSTRUCT_CLASS: "RT Structure Set Storage", SEGMENTATION_CLASS: "Segmentation Storage"},
        )
        self._receiver = Receiver(settings, begin=partial(_InMemory, self.received), observer=Unobserved())
        self._receiver.start()
        self.port = self._receiver.port

    def stop(self) -> None:
        """Stop listening."""
        self._receiver.stop()


class _InMemory:
    """Keeps one object in memory."""

    def __init__(self, received: dict[str, tuple[float, Dataset]], arrival: Arrival) -> None:
        self._received, self._arrival = received, arrival
        self._data_set = bytearray()

    def write(self, *fragments: Fragment) -> None:
        """Append."""
        self._data_set += b"".join(fragments)

    def finish(self) -> StoreAnswer:
        """Keep the data set, with the time."""
        implicit = self._arrival.transfer_syntax_uid == ImplicitVRLittleEndian
        dataset = read_dataset(BytesIO(self._data_set), is_implicit_VR=implicit, is_little_endian=True)
        self._received[self._arrival.affected_sop_class_uid] = (time.time(), dataset)
        stored = StoredInstance(
            series_instance_uid=str(dataset.SeriesInstanceUID),
            sop_instance_uid=self._arrival.affected_sop_instance_uid,
            file_name="",
            was_there=False,
        )
        return StoreAnswer(status=0x0000, stored=stored)

    def abandon(self) -> None:
        """Keep nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Where the demonstration takes place."""

    folder: Path
    config: Config
    config_path: Path
    planning_system: PlanningSystem

    @property
    def node(self) -> PeerAddress:
        section = self.config.node
        return PeerAddress(name="node", ae_title=section.ae_title, host=section.host, port=section.port)


def show(console: Console, *, picture: Path, keep: Path | None) -> int:
    """Run the demonstration and tell its story. Gives the exit status.

    Raises
    ------
    NodeError
        The node did not start, or did not deliver in time; its log is named.
    """
    silence()  # the story is told in words; the node's own log is in its file
    with _stage(keep) as stage, _running_node(stage):
        console.print("[bold]Delineate[/] shows itself at work: all on this machine, nothing leaves it.")
        scan = Scan()
        with console.status("drawing a synthetic planning CT"):
            written = write_planning_ct(stage.folder / "ct", scan, fresh=True)
        with console.status("waiting for the node to listen"):
            _wait_until_listening(stage)
        sent_at = time.time()
        with console.status("sending by C-STORE"):
            receipts = store(stage.node, list(written.files), calling_ae_title="CT_SCANNER")
        last_sent_at = time.time()
        refused = [receipt for receipt in receipts if receipt.outcome == "refused"]
        if refused:
            raise NodeError(f"The node refused {len(refused)} images: {refused[0].reason}.", _see_log(stage))
        with console.status("the node assembles, contours and delivers") as spinner:
            status = _wait_until_delivered(stage, written, spinner.update)
        _tell(console, status, written, sent_at=sent_at, last_sent_at=last_sent_at, stage=stage)
        with console.status("drawing the delivered contours"):
            arrived_at, _ = stage.planning_system.received[RTSTRUCT_CLASS]
            _draw(
                stage, status, picture, f"{arrived_at - last_sent_at:.1f} s from the last image to the planning system"
            )
    console.print(f"\nSee the contours: [bold]{escape(str(picture))}[/]", soft_wrap=True)
    if keep is not None:
        console.print(f"Kept: {escape(str(keep))}", soft_wrap=True)
    console.print(f"[dim]{DISCLAIMER}[/]")
    return 0


@contextmanager
def _stage(keep: Path | None) -> Iterator[_Stage]:
    folder = Path(tempfile.mkdtemp(prefix="delineate-demo-")) if keep is None else keep.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    planning_system = PlanningSystem()
    try:
        path = folder / "node.toml"
        text = _CONFIGURATION.format(port=_free_port(), destination_port=planning_system.port, data_dir=folder / "var")
        path.write_text(text, encoding="utf-8")
        yield _Stage(folder=folder, config=load(path), config_path=path, planning_system=planning_system)
    finally:
        planning_system.stop()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def _running_node(stage: _Stage) -> Iterator[None]:
    command = [sys.executable, "-m", "node", "serve", "--supervised", "--config", str(stage.config_path)]
    with (stage.folder / "node.log").open("wb") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then stops the node in order. Its standard
        # input ends with this process, however that dies, and the node with it.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, cwd=stage.folder
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()


def _wait_until_listening(stage: _Stage) -> None:
    deadline = time.monotonic() + _START_WITHIN_S
    while True:
        try:
            echo(stage.node, calling_ae_title="CT_SCANNER", timeout_s=5.0)
        except PeerError as error:
            if time.monotonic() > deadline:
                raise NodeError(f"The node did not start within {_START_WITHIN_S:.0f} s.", _see_log(stage)) from error
            time.sleep(0.1)
        else:
            return


def _see_log(stage: _Stage) -> str:
    lines = (stage.folder / "node.log").read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(["The end of its log:", *lines[-15:]])


def _wait_until_delivered(stage: _Stage, written: WrittenCT, say: Callable[[str], None]) -> dict[str, Any]:
    deadline = time.monotonic() + _DELIVER_WITHIN_S
    ledger = Node(config=stage.config).ledger
    while time.monotonic() < deadline:
        status = status_of(ledger)
        series = [row for row in status["series"] if row["series_uid"] == written.series_instance_uid]
        jobs = [row for row in status["jobs"] if row["series_uid"] == written.series_instance_uid]
        deliveries = [row for row in status["deliveries"] if row["job"].startswith(written.series_instance_uid)]
        if deliveries and deliveries[0]["state"] == DeliveryState.DELIVERED:
            return {"series": series[0], "job": jobs[0], "delivery": deliveries[0]}
        if series and series[0]["state"] == SeriesState.DECLINED:
            raise NodeError(f"The node declined the series: {series[0]['reason']}", _see_log(stage))
        if jobs and jobs[0]["state"] in (JobState.DECLINED, JobState.FAILED, JobState.QUARANTINED):
            raise NodeError(f"The job is {jobs[0]['state']}: {jobs[0]['reason']}", _see_log(stage))
        if jobs:
            say(f"{jobs[0]['state']} {jobs[0]['progress']}")
        elif series:
            say(f"received {series[0]['instances']} images; {series[0]['reason']}")
        time.sleep(0.1)
    raise NodeError(f"Nothing was delivered within {_DELIVER_WITHIN_S:.0f} s.", _see_log(stage))


def _tell(
    console: Console,
    status: Mapping[str, Any],
    written: WrittenCT,
    *,
    sent_at: float,
    last_sent_at: float,
    stage: _Stage,
) -> None:
    series, job, delivery = status["series"], status["job"], status["delivery"]
    arrived_at, _ = stage.planning_system.received[RTSTRUCT_CLASS]

    def line(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    line(
        f"\n[bold]Received[/] {series['instances']} {series['modality']} images from CT_SCANNER by C-STORE "
        f"in {last_sent_at - sent_at:.1f} s, each on disk before it was acknowledged."
    )
    waited = series["complete_at"] - series["last_instance_at"]
    line(f"[bold]Judged whole[/] {waited:.1f} s after the last image: {escape('; '.join(series['evidence']))}.")
    report, timings = job["report"], job["timings"]
    model = f"{report['model']} {report['model_version']}"
    line(f"[bold]Contoured[/] by {escape(model)} on {escape(report['computed_by'])}:")
    truth = {"Body": written.truth.body_cm3, "Bone": written.truth.bones_cm3}
    for structure in report["structures"]:
        drawn = truth.get(structure["name"])
        measure = f"  (drawn: {drawn:.0f} cm³)" if drawn else ""
        line(
            f"    {structure['name']:<16}{structure['volume_cm3']:>9.0f} cm³ "
            f"{structure['contours']:>5} contours{measure}"
        )
    line("    Thresholds fatten thin bone and fill the spinal canal: see models/body-bones/MODEL_CARD.md.")
    for omitted in report["omitted"]:
        line(f"    no {escape(omitted['name'])}: {escape(omitted['reason'])}")
    kinds = " and ".join(output["kind"].upper() for output in job["outputs"])
    destination = stage.config.destination(delivery["destination"])
    line(
        f"[bold]Delivered[/] {kinds} to {destination.ae_title} at {destination.host}:{destination.port}, "
        f"UNAPPROVED, for review."
    )
    spent = ", ".join(f"{name} {seconds:.2f}" for name, seconds in {**timings, "deliver": delivery["took_s"]}.items())
    line(f"[bold]Seconds[/] waiting for completeness {waited:.2f}, {spent}.")
    line(
        f"From the last image to the RT Structure Set in the planning system: "
        f"[bold]{arrived_at - last_sent_at:.1f} s[/]."
    )


def _draw(stage: _Stage, status: Mapping[str, Any], picture: Path, note: str) -> None:
    _, dataset = stage.planning_system.received[RTSTRUCT_CLASS]
    node = Node(config=stage.config)
    series_uid = status["series"]["series_uid"]
    manifest = manifest_from_json(node.ledger.manifest(series_uid, status["job"]["fingerprint"]))
    volume, _ = read_series(manifest, dataset_loader(node.inbox.path(series_uid), manifest.files))
    draw(volume, structures_from_rtstruct(dataset, volume.grid), picture, [note])
