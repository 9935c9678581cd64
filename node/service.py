"""Join everything: ports to adapters, stages to processes. The only module that owns the clock."""

import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

from node import DISCLAIMER, __version__
from node.adapters.database import open_database, open_server, refuse_damaged, set_leftovers_aside
from node.adapters.device_slot import DeviceSlot, cuda_device_name
from node.adapters.dicom_files import dataset_loader, read_file
from node.adapters.engine import Tasks, Worker, prepare
from node.adapters.guard import Guard, Member, Peers
from node.adapters.inbox import Inbox
from node.adapters.ledger import Ledger
from node.adapters.model_store import ModelStore
from node.adapters.processes import (
    BEGIN_ANEW,
    Supervisor,
    end_with_supervisor,
    hold_lock,
    leave_traces,
    offer_as_victim,
    run_until_told,
    when_supervisor_is_gone,
)
from node.adapters.profile_store import load_profile
from node.adapters.pulse import Pulse, ending_path, read_ending
from node.adapters.query_scu import count_instances
from node.adapters.result_store import ResultStore
from node.adapters.scp_settings import ReceiverSettings, TlsDoor
from node.adapters.spooling import TransportLimits
from node.adapters.storage_scp import Receiver
from node.adapters.tls import ServerIdentity, server_context
from node.clearing import start_clearing
from node.collecting import start_collecting
from node.config import Config
from node.delivering import asks_commitment, deliverer, hear_report, report_negative_results, watch_outbox
from node.dicom.file_meta import FileMeta
from node.domain.arrival import Arrival, AssociationEnding, Caller, Reception, StoreAnswer, StoredInstance
from node.domain.delivery import SENDER, PeerAddress, sender_of
from node.domain.errors import SetupError, place_of
from node.domain.forms import Form, Forms, refuse_namesakes
from node.domain.peers import AssociationPolicy
from node.domain.routing import refuse_other_channels
from node.log import log
from node.machines import Handover, end_without_the_lead, lead_when_possible, refuse_other_folder
from node.queueing import (
    CONTOUR,
    DELIVER,
    MAXIMUM_STARTS,
    QUEUES,
    DurableQueue,
    reconcile,
    try_what_waits_for_a_former_clock,
)
from node.resources import shipped
from node.sharing import SharedFiles
from node.stages.archives import Archive, ArchiveDesk
from node.stages.assemble import Assembler
from node.stages.receive import ReceiveLimits, begin

if TYPE_CHECKING:
    # Only the contourer needs them: with what they bring (scipy, OpenCV, highdicom) every other process would start a
    # third slower and hold 64 MB more.
    from node.stages.contour import Contourer, OpenModel

Role = Literal["receiver", "contourer", "dispatcher", "collector"]
ROLES: tuple[Role, ...] = get_args(Role)

_TICK_S = 0.25
_RECONCILE_EVERY_S = 15.0
_LOOK_FOR_THE_DEAD_EVERY_S = 2.0


@dataclass(kw_only=True)
class Node:
    """The adapters that every process of one node opens, each when it is first needed."""

    config: Config
    # Which process of its machine this is: "receiver", "receiver-2".
    process: str = "node"

    @property
    def is_shared(self) -> bool:
        """Tell whether several machines may be one node."""
        return bool(self.config.node.database)

    @property
    def machine(self) -> str:
        """Give this machine's name."""
        return self.config.node.machine or platform.node()

    @property
    def name(self) -> str:
        """Give the process' name, for what it writes alone and who it is to the others."""
        return f"{self.process}@{self.machine}" if self.is_shared else self.process

    @property
    def data_dir(self) -> Path:
        """Give the data folder."""
        return self.config.node.data_dir

    @property
    def database_path(self) -> Path:
        """Give the database's file."""
        return self.data_dir / "delineate.sqlite"

    @property
    def machine_dir(self) -> Path:
        """Give the folder for what concerns this machine's processes alone."""
        return self.data_dir / "machines" / self.machine if self.is_shared else self.data_dir

    @property
    def pulse_path(self) -> Path:
        """Give the file of the contourer's pulse."""
        return self.machine_dir / "contourer.pulse"

    @cached_property
    def database(self) -> Any:
        """Give the open database."""
        if self.is_shared:
            return open_server(self.config.node.database, self.name)
        return open_database(self.database_path)

    @cached_property
    def ledger(self) -> Ledger:
        """Give the ledger."""
        return Ledger(self.database, worker=self.name)

    @cached_property
    def guard(self) -> Guard:
        """Give this process' guard, on a shared database."""
        role = self.process.partition("-")[0]
        member = Member(name=self.name, machine=self.machine, role=role, pid=os.getpid())
        return Guard(self.database, member, lost=end_without_the_lead)

    @cached_property
    def inbox(self) -> Inbox:
        """Give the inbox."""
        return inbox_of(self.config, self.name)

    @cached_property
    def queue(self) -> DurableQueue:
        """Give the durable queue."""
        return DurableQueue(Tasks(self.database))

    @cached_property
    def models(self) -> ModelStore:
        """Give the model packages: those configured, and those that come with Delineate."""
        return model_store(self.config.node.model_dirs)


def inbox_of(config: Config, writer: str) -> Inbox:
    """Open the inbox as the process of that name writes to it."""
    return Inbox(config.node.data_dir / "inbox", writer=writer, minimum_free_gb=config.node.minimum_free_gb)


def model_store(model_dirs: Sequence[Path]) -> ModelStore:
    """Open folders of model packages, and that of the packages that come with Delineate, each once."""
    folders = {folder.resolve(): folder for folder in (*model_dirs, shipped("models"))}
    return ModelStore(list(folders.values()))


# The supervisor ------------------------------------------------------------------------------------------------------


def serve(config: Config, config_path: Path, *, roles: Sequence[Role] = ROLES, supervised: bool = False) -> int:
    """Run the node until SIGTERM or SIGINT (supervised: or until standard input ends). Gives the exit status.

    Where its database's file is removed while it runs, it begins anew with a new one.

    Parameters
    ----------
    roles
        What of the node is run here; the rest runs on other machines, or under another supervisor.

    Raises
    ------
    SetupError
        The data folder is in use, cannot be written or is another version's, or a model of a route cannot be loaded
        or takes other images than the route tells.
    """
    # Several supervisors of one machine share a database's processes by their roles.
    node = Node(config=config, process="node" if set(roles) == set(ROLES) else f"node-{'-'.join(sorted(roles))}")
    if "contourer" in roles:
        for model in sorted({model for route in config.routes for model in route.models}):
            node.models.load(model)
    if {"contourer", "dispatcher"} & set(roles):
        refuse_unfit_routes(node)
    lost = ""
    while True:
        status, lost = _serve(node, config_path, roles, lost, supervised=supervised)
        if not lost:
            return status
        node = Node(config=config, process=node.process)


def _serve(node: Node, config_path: Path, roles: Sequence[Role], lost: str, *, supervised: bool) -> tuple[int, str]:
    """Run the node until it is stopped, or its database is lost; gives the exit status and why that is lost.

    Parameters
    ----------
    lost
        Why the database before this one was.
    """
    config = node.config
    try:
        node.machine_dir.mkdir(parents=True, exist_ok=True)
        lock = hold_lock(node.machine_dir / f"{node.process}.lock", wait_s=1.0, holder="A node")
    except OSError as error:
        raise _unwritable(node.data_dir, error) from error
    with lock:
        _make_ledger(node, lost)
        if node.is_shared:
            refuse_other_folder(node.ledger, node.data_dir)
        prepare(node.database, QUEUES)
        node.database.dispose()
        command = [sys.executable, "-m", "node", "serve", "--config", str(config_path), "--supervised", "--role"]
        commands: dict[str, list[str]] = {role: [*command, role] for role in ROLES if role in roles}
        if config.hot_folder.folder is None:
            commands.pop("collector", None)
        for number in range(2, config.receiver.processes + 1 if "receiver" in roles else 2):
            commands[f"receiver-{number}"] = [*command, "receiver", "--number", str(number)]
        pulses = {"contourer": node.pulse_path} if "contourer" in roles else {}
        shared = SharedFiles(node.data_dir, None if node.is_shared else node.database_path, log)
        supervisor = Supervisor(commands, log=log, pulses=pulses, stall_s=config.contouring.stall_s, look=shared.look)
        _on_signals(supervisor.stop)
        if supervised:
            when_supervisor_is_gone(supervisor.stop)
        log(
            "node starts",
            ae_title=config.node.ae_title,
            host=config.node.host,
            port=config.node.port,
            data_dir=str(node.data_dir),
            database="PostgreSQL" if node.is_shared else "SQLite",
            roles=list(commands),
            version=__version__,
            notice=DISCLAIMER,
        )
        status = supervisor.run()
        if status == BEGIN_ANEW:
            return status, shared.reason
        log("node stopped")
    return status, ""


def _make_ledger(node: Node, lost: str) -> None:
    """Make the ledger's tables, or say what is wrong with those that are there."""
    if node.is_shared:
        Ledger(node.database)
        return
    # One at a time: supervisors of several roles may begin anew together.
    with hold_lock(node.data_dir / "database.lock", wait_s=60.0, holder="Another start of the node"):
        left = set_leftovers_aside(node.database_path)
        refuse_damaged(node.database_path)
        ledger = Ledger(node.database)
    if lost or left:
        why = lost or "its journal was there without it"
        ledger.note_event("database lost", node.database_path.name, f"{why}; the inbox was judged anew")


def refuse_unfit_routes(node: Node) -> None:
    """Refuse routes that do not say which series are the images that their models take.

    Raises
    ------
    SetupError
        With what to write.
    """
    for route in node.config.routes:
        for model in route.models:
            refuse_other_channels(route.route(), model, node.models.describe(model).image_names)


def _unwritable(folder: Path, error: OSError) -> SetupError:
    return SetupError(
        f"The data folder {folder} cannot be used: {error.strerror}.", "Give node.data_dir a writable one."
    )


def _on_signals(stop: Callable[[], None]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


# The roles -----------------------------------------------------------------------------------------------------------


def run_role(config: Config, role: Role, *, number: int = 1, supervised: bool) -> None:
    """Be one of the node's processes until told to stop; never returns."""
    process = f"{role}-{number}" if number > 1 else role
    threading.excepthook = _log_fault
    leave_traces()
    if supervised and role == "contourer":
        # The others end in order, their associations too; this one may be in native code that hears of nothing.
        end_with_supervisor()
    node = Node(config=config, process=process)
    let_go = _hold_name(node)
    start = {"receiver": _receiver, "contourer": _contourer, "dispatcher": _dispatcher, "collector": _collector}
    stop = start[role](node)

    def stop_and_let_go() -> None:
        stop()
        let_go()

    run_until_told(stop_and_let_go, supervised=supervised)


def _hold_name(node: Node) -> Callable[[], None]:
    """Let no other process have this one's name; gives what lets go of it."""
    if not node.is_shared:
        lock: IO[str] = hold_lock(node.data_dir / f"{node.process}.lock", wait_s=30.0, holder=f"A {node.process}")
        return lock.close
    # Not a lock on a file: in a folder that machines share it cannot be trusted.
    node.guard.take(wait_s=30.0)
    return node.guard.close


def _log_fault(fault: threading.ExceptHookArgs) -> None:
    """Say that a thread ended by a fault, ours or a library's; a traceback may quote what was sent."""
    at = place_of(fault.exc_value) if fault.exc_value is not None else ""
    log("thread ended by a fault", fault=fault.exc_type.__name__, at=at)


def _receiver(node: Node) -> Callable[[], None]:
    unfinished = node.inbox.remove_unfinished()
    lost = node.ledger.associations_lost(node.name)
    if unfinished or lost:
        log("receiver ended abruptly before", unfinished_files=unfinished, associations_lost=lost)
    receiver = Receiver(
        receiver_settings(node.config, name=node.name, is_first=node.process == "receiver"),
        begin=partial(begin, inbox=node.inbox, limits=_receive_limits(node.config)),
        observer=LedgerObserver(node.ledger),
        hear_report=partial(hear_report, node.ledger) if asks_commitment(node.config) else None,
    )
    receiver.start()
    return receiver.stop


def _receive_limits(config: Config) -> ReceiveLimits:
    return ReceiveLimits(
        maximum_object_bytes=config.receiver.maximum_object_mb * 2**20,
        maximum_series_instances=config.receiver.maximum_series_instances,
    )


def receiver_settings(config: Config, *, name: str = "receiver", is_first: bool = True) -> ReceiverSettings:
    """Give the settings of one receiver; where there are several, each has its share of the associations.

    Raises
    ------
    SetupError
        A file for TLS is missing or is not what it should be.
    """
    section, tls = config.receiver, config.receiver.tls
    tls_door = None
    if tls is not None:
        identity = ServerIdentity(certificate=tls.certificate, key=tls.key, client_ca=tls.client_ca)
        tls_door = TlsDoor(port=tls.port, context=server_context(identity))
    return ReceiverSettings(
        host=config.node.host,
        port=None if tls is not None and tls.only else config.node.port,
        association=AssociationPolicy(
            ae_title=config.node.ae_title,
            require_called_ae_title=section.require_called_ae_title,
            maximum_associations=-(-section.maximum_associations // section.processes),
            maximum_associations_per_address=section.maximum_associations_per_address,
            peers=tuple(peer.peer() for peer in config.peers),
        ),
        tls=tls_door,
        name=name,
        shares_ports=section.processes > 1,
        is_first=is_first,
        transport=section.transport,
        association_timeout_s=section.association_timeout_s,
        maximum_waiting=section.maximum_waiting,
        limits=TransportLimits(
            idle_timeout_s=section.idle_timeout_s,
            message_timeout_s=section.message_timeout_s,
            # What is too large is counted to its end, so that it gets an answer; up to twice as much.
            largest_message_bytes=2 * section.maximum_object_mb * 2**20 + 2**26,
        ),
    )


class LedgerObserver:
    """Writes what the receiver sees into the ledger: once per association and series, never per instance."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._sends_to: dict[str, set[str]] = {}

    def association_opened(self, caller: Caller, now: float) -> None:
        """Take note of a new association."""
        self._sends_to[caller.association_id] = set()

    def instance_stored(self, caller: Caller, stored: StoredInstance, now: float) -> None:
        """Note the association as a contributor, before the sender hears of success."""
        series = self._sends_to.setdefault(caller.association_id, set())
        if stored.series_instance_uid not in series:
            self._ledger.association_contributes(
                caller.association_id, caller.calling_ae_title, stored.series_instance_uid, now
            )
            series.add(stored.series_instance_uid)

    def instance_refused(self, caller: Caller, answer: StoreAnswer, now: float) -> None:
        """Keep the refusal for ``status``, and for the series that lacks the instance now."""
        said = f"0x{answer.status:04X}: {answer.error_comment}"
        self._ledger.note_event("instance refused", caller.calling_ae_title, said)
        if answer.lacking is not None:
            lacking = answer.lacking
            self._ledger.instance_refused(lacking.series_instance_uid, lacking.sop_instance_uid, said)

    def association_ended(self, caller: Caller, ending: AssociationEnding, now: float) -> None:
        """Note how the association ended, if it sent anything."""
        if self._sends_to.pop(caller.association_id, None):
            self._ledger.association_ended(caller.association_id, ending, now)

    def association_rejected(self, caller: Caller, reason: str, now: float) -> None:
        """Keep the rejection for ``status``."""
        self._ledger.note_event("association rejected", caller.calling_ae_title, reason)


def _collector(node: Node) -> Callable[[], None]:
    node.inbox.remove_unfinished()
    section = node.config.hot_folder
    return start_collecting(
        section,
        owner_file=node.machine_dir / "collector.id",
        ae_title=node.config.node.ae_title,
        begin=partial(_begin_file, node),
        has_room_for=node.inbox.has_room_for,
        disk_bytes=shutil.disk_usage(node.data_dir).total,
        observer=LedgerObserver(node.ledger),
        note=lambda text: node.ledger.note_event("hot folder", str(section.folder), text),
    )


def _begin_file(node: Node, meta: FileMeta, sender: str) -> Reception:
    arrival = Arrival(
        affected_sop_class_uid=meta.sop_class_uid,
        affected_sop_instance_uid=meta.sop_instance_uid,
        abstract_syntax_uid=meta.sop_class_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        calling_ae_title=sender,
        called_ae_title=node.config.node.ae_title,
        association_id="",
    )
    return begin(arrival, node.inbox, _receive_limits(node.config))


def _contourer(node: Node) -> Callable[[], None]:
    pulse = Pulse(node.pulse_path)
    pulse.beat("start")  # from here on a driver or a disk may hang
    from node.stages.contour import Contourer  # noqa: PLC0415 - no other process needs these seconds and megabytes
    from node.stages.course import JobWatch  # noqa: PLC0415
    from node.warm_models import WarmModels, opener  # noqa: PLC0415

    section = node.config.node
    offer_as_victim()
    open_model = WarmModels(node.models, opener(section), log)
    contourer = Contourer(
        ledger=node.ledger,
        queue=node.queue,
        results=ResultStore(node.data_dir, minimum_free_gb=section.minimum_free_gb),
        loader=lambda series_uid, files: dataset_loader(node.inbox.path(series_uid), files),
        open_model=_with_slot(open_model, section.device_id),
        forms=forms_of(node.config),
        software_version=__version__,
        watch=JobWatch(
            pulse=pulse,
            now=time.time,
            steady=time.monotonic,
            timeout_s=node.config.contouring.timeout_s or float("inf"),
        ),
        log=log,
    )
    _settle_predecessor(node.pulse_path, contourer)
    for model in sorted({model for route in node.config.routes for model in route.models}):
        pulse.beat(f"open the model {model}")  # a device may hang at that, too
        open_model(model)  # now, so that a device that cannot be used stops the start, and the first job need not wait
    pulse.rest()
    worker = Worker(
        node.database,
        executor_id=node.name if node.is_shared else "contourer-0",
        serves=[CONTOUR],
        functions={CONTOUR: contourer},
        maximum_starts=MAXIMUM_STARTS,
    )

    def stop() -> None:
        pulse.stop()  # first: what is cut short from here on is no job's fault
        worker.close()

    return stop


def _settle_predecessor(pulse_path: Path, contourer: "Contourer") -> None:
    """Let the job that the process before this one ended with have its setback, before the engine starts it again."""
    ending = read_ending(pulse_path)
    if ending is not None:
        contourer.set_back(ending.job, ending.attempt, ending.reason)
        ending_path(pulse_path).unlink()


def forms_of(config: Config) -> Callable[[Sequence[str]], Forms]:
    """Give what finds the forms that destinations want.

    Raises
    ------
    SetupError
        A profile is not there, or wrong, or two share a name.
    """
    forms = {
        one.name: Form(profile=load_profile(one.profile), segmentation=one.segmentation) for one in config.destinations
    }
    refuse_namesakes(forms)

    def forms_of_destinations(names: Sequence[str]) -> Forms:
        forms.update({name: _form_of_sender(config, name, forms) for name in names if _is_sender(name)})
        for name in names:
            if name not in forms:
                raise SetupError(f"The configuration has no destination {name!r} any more.", "Add it again.")
        return {name: forms[name] for name in names}

    return forms_of_destinations


def _is_sender(destination: str) -> bool:
    return destination == SENDER or sender_of(destination) is not None


def _form_of_sender(config: Config, destination: str, forms: Forms) -> Form:
    """Give what a sender wants where it is a destination, too; else what everybody takes."""
    named = (one.name for one in config.destinations if one.ae_title == sender_of(destination))
    name = next(named, None)
    return Form(profile=load_profile("generic")) if name is None else forms[name]


def _with_slot(open_model: Callable[[str], "OpenModel"], device_id: int) -> Callable[[str], "OpenModel"]:
    """Give with each model the time slot of its device, where that is an accelerator."""

    @cache
    def cuda_slot() -> DeviceSlot:
        slot = DeviceSlot(cuda_device_name(device_id))
        log("accelerator shared", lock=str(slot.path))
        return slot

    def open_with_slot(name: str) -> "OpenModel":
        model = open_model(name)
        # Read from the session: with device = "auto" nothing else tells where the network runs.
        return replace(model, slot=cuda_slot()) if "CUDAExecutionProvider" in model.predictor.computed_by else model

    return open_with_slot


def _dispatcher(node: Node) -> Callable[[], None]:
    # One at a time assembles, delivers and reconciles, whichever machine it is on.
    if node.is_shared:
        return lead_when_possible(node.guard, Peers(node.database), partial(_dispatch, node))
    return _dispatch(node)


def _dispatch(node: Node) -> Callable[[], None]:
    config = node.config
    archives = archive_desk(config)
    assembler = Assembler(
        inbox=node.inbox,
        ledger=node.ledger,
        queue=node.queue,
        routes=[route.route() for route in config.routes],
        policy=config.completion.policy(),
        policies=config.policies(),
        archives=archives,
        read_instance=read_file,
        log=log,
    )
    worker = Worker(
        node.database,
        # The same for whoever leads: who leads next goes on with what the one before left.
        executor_id="dispatcher-0",
        serves=[DELIVER],
        functions={DELIVER: deliverer(config, node.ledger, node.queue)},
        maximum_starts=None,
    )
    stopping = threading.Event()
    watch_outbox(config, node.ledger, node.queue, stopping)
    report_negative_results(config, node.ledger, node.queue, node.inbox, stopping)
    threading.Thread(target=_assemble_until, args=(stopping, assembler, node), daemon=True).start()
    if node.is_shared:
        threading.Thread(target=_hand_on_until, args=(stopping, node), daemon=True).start()
    start_clearing(stopping, config, node.ledger)

    def stop() -> None:
        stopping.set()
        archives.close()
        worker.close()

    return stop


def archive_desk(config: Config) -> ArchiveDesk:
    """Give whom to ask how many instances a series has, as ``[[archives]]`` says."""
    archives = [
        Archive(
            calling_ae_titles=one.calling_ae_titles,
            address=PeerAddress(name=one.ae_title, ae_title=one.ae_title, host=one.host, port=one.port),
            timeout_s=one.timeout_s,
        )
        for one in config.archives
    ]

    def count(archive: Archive, study_uid: str, series_uid: str) -> int:
        return count_instances(
            archive.address,
            study_uid,
            series_uid,
            calling_ae_title=config.node.ae_title,
            timeout_s=archive.timeout_s,
        )

    return ArchiveDesk(archives, count=count, now=time.time, log=log)


def _assemble_until(stopping: threading.Event, assembler: Assembler, node: Node) -> None:
    reconcile_at = 0.0
    while not stopping.is_set():
        try:
            steady = time.monotonic()
            assembler.tick(time.time(), steady)
            if steady >= reconcile_at:
                reconcile(node.ledger, node.queue.tasks, config=node.config)
                try_what_waits_for_a_former_clock(node.ledger, node.queue.tasks, time.time())
                reconcile_at = steady + _RECONCILE_EVERY_S
        except Exception as error:  # the stage's loop: a fault in one look must not end the next
            log("assembling failed", fault=type(error).__name__, at=place_of(error))
            stopping.wait(5.0)
        stopping.wait(_TICK_S)


def _hand_on_until(stopping: threading.Event, node: Node) -> None:
    handover = Handover(
        peers=Peers(node.database),
        ledger=node.ledger,
        tasks=node.queue.tasks,
        queue=node.queue,
        remove_unfinished=lambda name: inbox_of(node.config, name).remove_unfinished(),
        now=time.time,
    )
    while not stopping.is_set():
        try:
            handover.look()
        except Exception as error:  # the loop: a server that restarts must not end it
            log("looking for the dead failed", fault=type(error).__name__, at=place_of(error))
        stopping.wait(_LOOK_FOR_THE_DEAD_EVERY_S)
