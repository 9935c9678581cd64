"""Join destinations of the configuration to what carries objects there, and keep watch over the outbox."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from node import __version__
from node.adapters import confirmation_scu, stow
from node.adapters.calling import Line, TlsLine
from node.adapters.dicom_files import read_file, read_headers
from node.adapters.inbox import Inbox
from node.adapters.ledger import Ledger
from node.adapters.result_folder import look_for_folder, store_in_folder
from node.adapters.result_store import ResultStore
from node.adapters.storage_scu import echo, store_best
from node.adapters.tls import ClientIdentity, client_context
from node.config import Config
from node.destination_section import Destination
from node.domain.delivery import SENDER, CommitmentReport, DeliveryPlan, StoreReceipt, sender_of
from node.domain.errors import SetupError, place_of
from node.domain.instance import ReceivedInstance
from node.domain.routing import matches
from node.log import log
from node.queueing import DurableQueue
from node.stages.deliver import Deliverer, RetryPolicy
from node.stages.notify import Notifier
from node.stages.outbox import OutboxWatch, WatchPolicy

_TICK_S = 1.0
_FIRST_PROBE_S = 2.0
# How long an association is held open for a report on Storage Commitment: one that keeps everything at once needs no
# more, any other opens one of its own.
_REPORT_WAIT_S = 5.0


class Destinations:
    """The destinations of a configuration, as the stages' carrier; TLS files and secrets are read at every call."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def plan(self, destination: str) -> DeliveryPlan:
        """Give what is to be done beside sending."""
        return self.find(destination).plan()

    def store(self, destination: str, offers: Sequence[Sequence[Path]]) -> Sequence[StoreReceipt]:
        """Send the first of several sets of files that it takes whole, else that of which it takes most."""
        found = self.find(destination)
        if found.folder is not None:
            return store_in_folder(found.name, found.folder, offers[0])  # a folder takes everything
        if found.stow is not None:
            return stow.store_at(web_destination(found), offers, timeout_s=self._config.delivery.timeout_s)
        line = self.line(found)
        return store_best(
            found.address(), offers, calling_ae_title=line.calling_ae_title, timeout_s=line.timeout_s, tls=line.tls
        )

    def probe(self, destination: str) -> None:
        """Find out cheaply whether it can be talked to."""
        found = self.find(destination)
        if found.folder is not None:
            look_for_folder(found.name, found.folder)
        elif found.stow is not None:
            stow.probe(web_destination(found), timeout_s=self._config.delivery.timeout_s)
        else:
            line = self.line(found)
            echo(found.address(), calling_ae_title=line.calling_ae_title, timeout_s=line.timeout_s, tls=line.tls)

    def request_commitment(
        self, destination: str, transaction_uid: str, objects: Mapping[str, str]
    ) -> CommitmentReport | None:
        """Ask it to commit itself to keep objects; gives its report if that comes at once."""
        found = self.find(destination)
        return confirmation_scu.request_commitment(
            found.address(), transaction_uid, objects, self.line(found), wait_s=_REPORT_WAIT_S
        )

    def missing_of(self, destination: str, files: Sequence[Path]) -> Sequence[str]:
        """Ask it for each object in files; gives the SOP Instance UIDs that it does not know."""
        found = self.find(destination)
        return confirmation_scu.missing_of(found.address(), files, self.line(found))

    def find(self, name: str) -> Destination:
        """Give the destination of that name, or that which is the sender of a series.

        Raises
        ------
        SetupError
            The configuration has none.
        """
        calling_ae_title = sender_of(name)
        if calling_ae_title is not None:
            return self._sender(calling_ae_title)
        if name == SENDER:
            raise SetupError("It is not known who sent the images of this job.", "Send them again.")
        found = next((one for one in self._config.destinations if one.name == name), None)
        if found is None:
            raise SetupError(f"The configuration has no destination {name!r} any more.", "Add it again.")
        return found

    def _sender(self, calling_ae_title: str) -> Destination:
        """PS3.7 knows no way back: where a sender listens, only the configuration can tell."""
        for one in self._config.destinations:
            if one.ae_title == calling_ae_title:
                return one
        for peer in self._config.peers:
            if peer.host is not None and peer.port is not None and matches(peer.ae_title, calling_ae_title):
                return Destination(name=peer.name, ae_title=calling_ae_title, host=peer.host, port=peer.port)
        remedy = f"Add host and port to the [[peers]] entry of {calling_ae_title}, or a [[destinations]] entry with it."
        raise SetupError(f"Nothing tells where the sender {calling_ae_title!r} takes results. {remedy}", remedy)

    def line(self, destination: Destination) -> Line:
        """Give how a destination is called; raises SetupError where a file for TLS cannot be used."""
        tls = None
        if destination.tls:
            assert destination.host is not None
            context = client_context(_identity(destination))
            tls = TlsLine(context=context, server_name=destination.tls_name or destination.host)
        return Line(
            calling_ae_title=destination.calling_ae_title or self._config.node.ae_title,
            timeout_s=self._config.delivery.timeout_s,
            tls=tls,
        )


def web_destination(destination: Destination) -> stow.WebDestination:
    """Give a DICOMweb destination; raises SetupError where a file for TLS cannot be used."""
    assert destination.stow is not None
    return stow.WebDestination(
        name=destination.name,
        url=destination.stow,
        tls=None if destination.tls_ca is None else client_context(_identity(destination)),
        token=destination.token_file,
        login=destination.login_file,
    )


def _identity(destination: Destination) -> ClientIdentity:
    assert destination.tls_ca is not None
    return ClientIdentity(ca=destination.tls_ca, certificate=destination.tls_certificate, key=destination.tls_key)


def deliverer(config: Config, ledger: Ledger, queue: DurableQueue) -> Deliverer:
    """Give what makes one try of a delivery."""
    section = config.delivery
    return Deliverer(
        ledger=ledger,
        queue=queue,
        carrier=Destinations(config),
        policy=RetryPolicy(
            first_retry_s=section.first_retry_s,
            longest_retry_s=section.longest_retry_s,
            give_up_after_s=section.give_up_after_days * 86_400,
            commitment_timeout_s=section.commitment_timeout_minutes * 60,
        ),
        results=config.node.data_dir,
        now=time.time,
        log=log,
    )


def watch_outbox(config: Config, ledger: Ledger, queue: DurableQueue, stopping: threading.Event) -> None:
    """Begin to watch over the outbox, in a thread of its own, until told to stop."""
    watch = OutboxWatch(
        ledger=ledger,
        queue=queue,
        carrier=Destinations(config),
        policy=WatchPolicy(
            first_probe_s=min(_FIRST_PROBE_S, config.delivery.probe_s),
            longest_probe_s=config.delivery.probe_s,
            alarm_after_s=config.delivery.alarm_after_hours * 3600,
        ),
        now=time.time,
        log=log,
    )
    threading.Thread(target=_watch_until, args=(stopping, watch.tick), name="outbox", daemon=True).start()


def report_negative_results(
    config: Config, ledger: Ledger, queue: DurableQueue, inbox: Inbox, stopping: threading.Event
) -> None:
    """Begin to report what ended without contours, in a thread of its own, until told to stop."""
    notifier = Notifier(
        ledger=ledger,
        queue=queue,
        results=ResultStore(config.node.data_dir),
        files=_StoredFiles(inbox),
        routes=[route.route() for route in config.routes],
        device=(config.node.ae_title, __version__),
        now=time.time,
        log=log,
    )
    threading.Thread(target=_watch_until, args=(stopping, notifier.tick), name="notices", daemon=True).start()


class _StoredFiles:
    """The inbox, for reports on what is in it."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def names(self, series_uid: str) -> Sequence[str]:
        """Name the stored instances of a series."""
        return self._inbox.file_names(series_uid)

    def instance(self, series_uid: str, name: str) -> ReceivedInstance:
        """Read what routing looks at."""
        return read_file(self._inbox.path(series_uid, name))

    def headers(self, series_uid: str, names: Sequence[str]) -> Sequence[Dataset]:
        """Read what a report needs of every instance; those that cannot be read are left out."""
        return read_headers([self._inbox.path(series_uid, name) for name in names])


def _watch_until(stopping: threading.Event, tick: Callable[[], None]) -> None:
    while not stopping.wait(_TICK_S):
        try:
            tick()
        except Exception as error:  # the stage's loop: a fault in one look must not end the next
            log("watching failed", what=threading.current_thread().name, fault=type(error).__name__, at=place_of(error))
            stopping.wait(5.0)


def asks_commitment(config: Config) -> bool:
    """Tell whether any destination is to commit itself, so that reports may come."""
    return any(one.commitment for one in config.destinations)


def hear_report(ledger: Ledger, report: CommitmentReport) -> bool:
    """Note what a destination reports on Storage Commitment; gives whether that was asked for."""
    is_known = ledger.commitment_reported(report)
    log(
        "commitment reported",
        transaction=report.transaction_uid,
        known=is_known,
        committed=len(report.committed),
        failed=len(report.failed),
    )
    return is_known
