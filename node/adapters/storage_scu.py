"""The Storage SCU: sends Part 10 files to a destination and gives its answer to each.

An object goes out byte for byte as its file holds it where the destination takes its transfer syntax. Otherwise RLE is
decompressed, and Explicit VR Little Endian becomes Implicit, which loses nothing and which everybody must take (PS3.5
10.1). Implicit never becomes Explicit: Contour Data above 65534 bytes would turn into UN (PS3.5 6.2.2), which planning
systems cannot load.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import build_context

from node.adapters.calling import Caller, Line, TlsLine, class_name
from node.domain.delivery import PeerAddress, StoreReceipt, meaning_of
from node.domain.errors import InputError, PeerError

VERIFICATION_CLASS = "1.2.840.10008.1.1"

# What the node makes: SOP Class UID -> (name, the transfer syntax it is written in).
DELIVERED_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.481.3": ("RT Structure Set Storage", "Implicit VR Little Endian"),
    "1.2.840.10008.5.1.4.1.1.66.4": ("Segmentation Storage", "Explicit VR Little Endian or RLE Lossless"),
    "1.2.840.10008.5.1.4.1.1.66.7": ("Label Map Segmentation Storage", "RLE Lossless"),
    "1.2.840.10008.5.1.4.1.1.88.11": ("Basic Text SR Storage", "Explicit VR Little Endian"),
}

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"

# What an object that is written in a transfer syntax can be sent in without loss, the best first.
SENT_IN = {
    EXPLICIT_VR_LITTLE_ENDIAN: (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
    RLE_LOSSLESS: (RLE_LOSSLESS, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN),
}

# How much a destination must take per second before we call it silent: a slow WAN link.
SLOWEST_BYTES_PER_S = 250_000


def echo(
    destination: PeerAddress, *, calling_ae_title: str, timeout_s: float = 30.0, tls: TlsLine | None = None
) -> float:
    """Verify that a destination answers C-ECHO; gives the seconds that connecting and answering took.

    Raises
    ------
    UnreachableError
        It does not, and why.
    """
    started = time.monotonic()
    caller = Caller(destination, Line(calling_ae_title=calling_ae_title, timeout_s=timeout_s, tls=tls))
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
    destination: PeerAddress,
    offers: Sequence[Sequence[Path]],
    *,
    calling_ae_title: str,
    timeout_s: float = 30.0,
    tls: TlsLine | None = None,
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
    UnreachableError
        There is no association with the destination.
    PeerError
        The destination aborts the association, takes none of the classes, or is silent. Some objects may have been
        stored: send all again, they are the same instances.
    InputError
        A file is no DICOM file.
    OSError
        A file cannot be read.
    """
    read = {path: _read_outgoing(path) for files in offers for path in files}
    caller = Caller(destination, Line(calling_ae_title=calling_ae_title, timeout_s=timeout_s, tls=tls))
    with caller.association(_contexts(list(read.values()))) as association:
        accepted = {(str(one.abstract_syntax), str(one.transfer_syntax[0])) for one in association.accepted_contexts}
        # Of offers that are taken in part the later one: it asks less of the destination.
        best = max(reversed(offers), key=lambda files: sum(bool(read[path].fitting(accepted)) for path in files))
        whole = (files for files in offers if all(read[path].fitting(accepted) for path in files))
        sender = _Sender(caller, association, accepted, timeout_s)
        return tuple(sender.send(read[path]) for path in next(whole, best))


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


class _Sender:
    """Sends within one association."""

    def __init__(self, caller: Caller, association: Any, accepted: set[tuple[str, str]], timeout_s: float) -> None:
        self._caller = caller
        self._association = association
        self._accepted = accepted
        self._timeout_s = timeout_s

    def send(self, outgoing: _Outgoing) -> StoreReceipt:
        """Send one object and wait for the answer."""
        started = time.monotonic()
        fits = outgoing.fitting(self._accepted)
        if not fits:
            receipt = _receipt(outgoing, "", 0x0122, "", 0.0)
            return replace(receipt, reason=f"{receipt.reason}: no presentation context for {_offer(outgoing)}")
        if not self._association.is_established:
            raise PeerError(f"{self._caller.peer} ended the association before all objects were sent.")
        # pynetdicom counts the time from when the object is queued, not from when it has left.
        timeout_s = self._timeout_s + outgoing.byte_count / SLOWEST_BYTES_PER_S
        self._association.dimse_timeout = timeout_s
        # A path is sent byte for byte; a dataset is encoded anew in the context's transfer syntax.
        own = fits[0] == outgoing.transfer_syntax_uid
        response = self._association.send_c_store(outgoing.path if own else outgoing.dataset())
        status = self._caller.status_of(response, started, timeout_s)
        comment = str(response.get("ErrorComment", ""))
        return _receipt(outgoing, fits[0], status, comment, time.monotonic() - started)


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
    return f"{class_name(outgoing.sop_class_uid)} in {UID(outgoing.transfer_syntax_uid).name}"


def _receipt(outgoing: _Outgoing, transfer_syntax_uid: str, status: int, comment: str, took_s: float) -> StoreReceipt:
    return StoreReceipt(
        sop_instance_uid=outgoing.sop_instance_uid,
        sop_class_uid=outgoing.sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        **meaning_of(status),
        error_comment=comment,
        took_s=took_s,
    )
