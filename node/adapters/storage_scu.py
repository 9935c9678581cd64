"""The Storage SCU: sends Part 10 files to a destination and gives its answer to each.

An object goes out byte for byte as its file holds it where the destination takes its transfer syntax. Otherwise RLE is
decompressed, and Explicit VR Little Endian becomes Implicit, which loses nothing and which everybody must take (PS3.5
10.1). Implicit never becomes Explicit: Contour Data above 65534 bytes would turn into UN (PS3.5 6.2.2), which planning
systems cannot load.
"""

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import AE, _config, build_context, evt

from node.domain.delivery import PeerAddress, StoreOutcome, StoreReceipt
from node.domain.errors import InputError, PeerError
from node.domain.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

VERIFICATION_CLASS = "1.2.840.10008.1.1"

# What the node makes: SOP Class UID -> (name, the transfer syntax it is written in).
DELIVERED_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.481.3": ("RT Structure Set Storage", "Implicit VR Little Endian"),
    "1.2.840.10008.5.1.4.1.1.66.4": ("Segmentation Storage", "Explicit VR Little Endian or RLE Lossless"),
    "1.2.840.10008.5.1.4.1.1.66.7": ("Label Map Segmentation Storage", "RLE Lossless"),
}

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

# What an object that is written in a transfer syntax can be sent in without loss, the best first.
SENT_IN = {
    EXPLICIT_VR_LITTLE_ENDIAN: (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
    RLE_LOSSLESS: (RLE_LOSSLESS, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
}

# PS3.4 Table B.2-1 and PS3.7 C.5: what a destination's status means. Ranges by their first digits.
STATUS_MEANINGS = {
    "0000": "stored",
    "0105": "no such attribute",
    "0106": "invalid attribute value",
    "0110": "processing failure",
    "0117": "invalid SOP instance",
    "0122": "SOP class not supported",
    "0124": "not authorised",
    "0210": "duplicate invocation",
    "0211": "unrecognised operation",
    "0212": "mistyped argument",
    "0213": "resource limitation",
    "A7": "out of resources",
    "A9": "data set does not match its SOP class",
    "B000": "stored, with elements coerced",
    "B006": "stored, with elements discarded",
    "B007": "stored, though it does not match its SOP class",
    "B": "stored with a warning",
    "C": "cannot understand",
}
# Refusals whose cause may pass without anybody changing the object: resources, a fault, a permission.
WORTH_RETRYING = ("A7", "0110", "0124", "0213")
# PS3.7 C.4: warnings outside Bxxx.
WARNINGS = ("B", "0001", "0107", "0116")

# How much a destination must take per second before we call it silent: a slow WAN link.
SLOWEST_BYTES_PER_S = 250_000


def echo(destination: PeerAddress, *, calling_ae_title: str, timeout_s: float = 30.0) -> float:
    """Verify that a destination answers C-ECHO; gives the seconds that connecting and answering took.

    Raises
    ------
    PeerError
        It does not, and why.
    """
    started = time.monotonic()
    caller = _Caller(destination, calling_ae_title, timeout_s)
    with caller.association([build_context(VERIFICATION_CLASS, IMPLICIT_VR_LITTLE_ENDIAN)]) as association:
        response = association.send_c_echo()
        status = caller.status_of(response, started, timeout_s)
    if status != 0:
        raise PeerError(f"{caller.peer} answers C-ECHO with status 0x{status:04X}.")
    return time.monotonic() - started


def store(
    destination: PeerAddress, files: Sequence[Path], *, calling_ae_title: str, timeout_s: float = 30.0
) -> tuple[StoreReceipt, ...]:
    """Send files as ``store_best`` sends its only offer."""
    return store_best(destination, [files], calling_ae_title=calling_ae_title, timeout_s=timeout_s)


def store_best(
    destination: PeerAddress, offers: Sequence[Sequence[Path]], *, calling_ae_title: str, timeout_s: float = 30.0
) -> tuple[StoreReceipt, ...]:
    """Send one of several sets of files in one association; gives a receipt for each file, in their order.

    The first set that the destination takes whole, by class and transfer syntax, else that of which it takes most; a
    file of that which the destination does not take is refused (0x0122) while the others are sent.

    Parameters
    ----------
    timeout_s
        Longest wait for a connection, for the association, and, beyond the time the bytes may take, for each answer.

    Raises
    ------
    PeerError
        The destination cannot be reached, rejects or aborts the association, takes none of the classes, or is silent.
        Some objects may have been stored: send all again, they are the same instances.
    InputError
        A file is no DICOM file.
    OSError
        A file cannot be read.
    """
    read = {path: _read_outgoing(path) for files in offers for path in files}
    caller = _Caller(destination, calling_ae_title, timeout_s)
    with caller.association(_contexts(list(read.values()))) as association:
        accepted = {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in association.accepted_contexts}
        # Of offers that are taken in part the later one: it asks less of the destination.
        best = max(reversed(offers), key=lambda files: sum(bool(read[path].fitting(accepted)) for path in files))
        whole = (files for files in offers if all(read[path].fitting(accepted) for path in files))
        return tuple(caller.send(association, accepted, read[path]) for path in next(whole, best))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outgoing:
    """One file to send."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    byte_count: int

    @property
    def transfer_syntaxes(self) -> tuple[str, ...]:
        """Give what the object can be sent in, its own first."""
        return SENT_IN.get(self.transfer_syntax_uid, (self.transfer_syntax_uid,))

    def fitting(self, accepted: set[tuple[str, str]]) -> list[str]:
        """Give what it can be sent in of the accepted pairs of SOP class and transfer syntax, the best first."""
        return [one for one in self.transfer_syntaxes if (self.sop_class_uid, one) in accepted]

    def dataset(self) -> Dataset:
        """Read it, uncompressed."""
        dataset = dcmread(self.path)
        if self.transfer_syntax_uid == RLE_LOSSLESS:
            # It stays the same instance: the voxels are the same.
            dataset.decompress(generate_instance_uid=False)
        return dataset


class _Caller:
    """One call to one destination."""

    def __init__(self, destination: PeerAddress, calling_ae_title: str, timeout_s: float) -> None:
        self._destination = destination
        self._timeout_s = timeout_s
        self._connected = False
        self.peer = f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
        self._entity = AE(ae_title=calling_ae_title)
        self._entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._entity.connection_timeout = timeout_s
        self._entity.acse_timeout = timeout_s
        self._entity.dimse_timeout = timeout_s
        self._entity.network_timeout = timeout_s

    @contextmanager
    def association(self, contexts: list[Any]) -> Iterator[Any]:
        """Open an association; release it at the end, abort it on an error."""
        association = self._open(contexts)
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()

    def send(self, association: Any, accepted: set[tuple[str, str]], outgoing: _Outgoing) -> StoreReceipt:
        """Send one object and wait for the answer."""
        started = time.monotonic()
        fits = outgoing.fitting(accepted)
        if not fits:
            receipt = _receipt(outgoing, "", 0x0122, "", 0.0)
            return replace(receipt, reason=f"{receipt.reason}: no presentation context for {_offer(outgoing)}")
        if not association.is_established:
            raise PeerError(f"{self.peer} ended the association before all objects were sent.")
        # pynetdicom counts the time from when the object is queued, not from when it has left.
        timeout_s = self._timeout_s + outgoing.byte_count / SLOWEST_BYTES_PER_S
        association.dimse_timeout = timeout_s
        # A path is sent byte for byte; a dataset is encoded anew in the context's transfer syntax.
        own = fits[0] == outgoing.transfer_syntax_uid
        response = association.send_c_store(outgoing.path if own else outgoing.dataset())
        status = self.status_of(response, started, timeout_s)
        comment = str(response.get("ErrorComment", ""))
        return _receipt(outgoing, fits[0], status, comment, time.monotonic() - started)

    def status_of(self, response: Any, started: float, timeout_s: float) -> int:
        """Give the status of a response; pynetdicom hands out an empty one where none came."""
        if "Status" in response:
            return int(response.Status)
        waited_s = time.monotonic() - started
        if waited_s >= timeout_s:
            raise PeerError(f"{self.peer} did not answer within {waited_s:.0f} s.")
        raise PeerError(f"{self.peer} aborted the association, or stopped reading, instead of answering.")

    def _open(self, contexts: list[Any]) -> Any:
        # Hands files out as they are instead of decoding and encoding them.
        _config.STORE_SEND_CHUNKED_DATASET = True
        _config.LOG_HANDLER_LEVEL = "none"
        started = time.monotonic()
        try:
            association = self._entity.associate(
                self._destination.host,
                self._destination.port,
                contexts=contexts,
                ae_title=self._destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, self._on_connection)],
            )
        except socket.gaierror as error:
            raise PeerError(
                f"{self.peer}: the host name cannot be resolved.", "Mend the destination's host, or the name service."
            ) from error
        if not association.is_established:
            raise self._why_not(association, time.monotonic() - started)
        return association

    def _on_connection(self, event: Any) -> None:
        self._connected = True
        connection = event.assoc.dul.socket.socket
        # The last, small PDU of an object must not wait for the acknowledgement of the one before it.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # pynetdicom sends without a bound: a peer that stops reading would hold its thread, and us in abort(), for
        # ever. Of the connection's own timeouts this one leaves receiving as pynetdicom wants it: struct timeval.
        seconds, fraction = divmod(self._timeout_s, 1)
        connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(fraction * 1e6))
        )

    def _why_not(self, association: Any, waited_s: float) -> PeerError:
        """Say in plain words why there is no association."""
        if not self._connected:
            return PeerError(f"{self.peer} cannot be reached: {self._connection_fault(waited_s)}.")
        if association.is_rejected:
            answer = association.acceptor.primitive
            return PeerError(
                f"{self.peer} rejected the association: {answer.reason_str} ({answer.result_str}).",
                "Compare the AE titles in our configuration with those that the destination knows.",
            )
        if association.rejected_contexts:
            refused = ", ".join(sorted({_class_name(one.abstract_syntax) for one in association.rejected_contexts}))
            return PeerError(
                f"{self.peer} accepts no presentation context for {refused}.",
                "Let the destination accept it, or leave it out of the route's outputs.",
            )
        if waited_s >= self._timeout_s:
            return PeerError(f"{self.peer} did not answer the association request within {waited_s:.0f} s.")
        return PeerError(f"{self.peer} aborted the association request.")

    def _connection_fault(self, waited_s: float) -> str:
        """Connect once more to learn the cause, which pynetdicom writes to its log only."""
        if waited_s >= self._timeout_s:
            return f"no answer within {waited_s:.0f} s"
        address = (self._destination.host, self._destination.port)
        try:
            socket.create_connection(address, timeout=min(self._timeout_s, 5.0)).close()
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return (error.strerror or str(error)).lower()
        return "the connection failed, though a second one was taken"


def _contexts(objects: Sequence[_Outgoing]) -> list[Any]:
    """Propose a context for every class and transfer syntax: one each, so that we choose and not the destination."""
    wanted = dict.fromkeys((one.sop_class_uid, syntax) for one in objects for syntax in one.transfer_syntaxes)
    return [build_context(sop_class, syntax) for sop_class, syntax in wanted]


def _read_outgoing(path: Path) -> _Outgoing:
    try:
        meta = read_file_meta_info(path)
        return _Outgoing(
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
            byte_count=path.stat().st_size,
        )
    except (InvalidDicomError, AttributeError) as error:
        raise InputError(f"{path.name} is not a DICOM file with File Meta Information.") from error


def _offer(outgoing: _Outgoing) -> str:
    return f"{_class_name(outgoing.sop_class_uid)} in {UID(outgoing.transfer_syntax_uid).name}"


def _class_name(sop_class_uid: str) -> str:
    """Name a SOP class; pydicom does not know all that we make."""
    name, _ = DELIVERED_CLASSES.get(sop_class_uid, (UID(sop_class_uid).name, ""))
    return name


def _receipt(outgoing: _Outgoing, transfer_syntax_uid: str, status: int, comment: str, took_s: float) -> StoreReceipt:
    digits = f"{status:04X}"
    meaning = next((text for start, text in STATUS_MEANINGS.items() if digits.startswith(start)), "unknown status")
    outcome: StoreOutcome = (
        "stored" if status == 0 else "stored with warning" if digits.startswith(WARNINGS) else "refused"
    )
    return StoreReceipt(
        sop_instance_uid=outgoing.sop_instance_uid,
        sop_class_uid=outgoing.sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        outcome=outcome,
        status=status,
        reason=f"{meaning} (0x{digits})",
        error_comment=comment,
        worth_retrying=outcome == "refused" and digits.startswith(WORTH_RETRYING),
        took_s=took_s,
    )
