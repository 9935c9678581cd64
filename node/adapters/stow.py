"""DICOMweb as a destination: Store Transaction (STOW-RS, PS3.18 10.5) of Part 10 files, streamed.

They go as they are, but what is in Implicit VR, which web services must not use (PS3.18 8.7.3), goes in Explicit VR.
Where that would turn contours into UN, which nobody could load, it stays as it is: servers take it.
"""

import base64
import io
import json
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from node.dicom.explicit_vr import in_explicit_vr
from node.domain.delivery import StoreReceipt, meaning_of
from node.domain.errors import InputError, PeerError, SetupError, UnreachableError

# PS3.18 10.5.3 and Annex I.2: attributes of the answer, as the DICOM JSON model names them (F.2.2).
_STORED, _FAILED = "00081199", "00081198"
_CLASS, _INSTANCE, _WARNING_REASON, _FAILURE_REASON = "00081150", "00081155", "00081196", "00081197"
_JSON = "application/dicom+json"
_IMPLICIT_VR_LITTLE_ENDIAN, _EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
# How much a destination must take per second before we call it silent: a slow WAN link.
_SLOWEST_BYTES_PER_S = 250_000
_PIECE_BYTES = 256 * 1024
# An answer names a handful of objects.
_LONGEST_ANSWER = 4 * 2**20
_OUT_OF_RESOURCES = (413, 429, 503, 507)
_GATEWAY_WITHOUT_SERVER = (502, 504)
_SOP_CLASS_NOT_SUPPORTED = 0x0122


@dataclass(frozen=True, slots=True, kw_only=True)
class WebDestination:
    """One origin server.

    Files are read at every call: tokens are renewed while the node runs.
    """

    # What the configuration calls it.
    name: str
    # Of the service: what stands before "/studies".
    url: str
    # Of an authority's certificates; None: those of the system.
    tls: ssl.SSLContext | None = None
    # Holds a bearer token, or "user:password".
    token: Path | None = None
    login: Path | None = None

    def headers(self) -> dict[str, str]:
        """Give what every request bears.

        Raises
        ------
        SetupError
            The file of the token, or of the login, cannot be read.
        """
        if self.token is not None:
            return {"Authorization": f"Bearer {_secret(self.token)}"}
        if self.login is not None:
            return {"Authorization": f"Basic {base64.b64encode(_secret(self.login).encode()).decode()}"}
        return {}


def probe(destination: WebDestination, *, timeout_s: float) -> int:
    """Ask for one study (QIDO-RS, PS3.18 10.6); gives the HTTP status of whatever answered.

    Raises
    ------
    UnreachableError
        Nothing answers, or what does has no server behind it.
    PeerError
        It does not let us in.
    """
    with _in_our_words(destination), _pool(destination, timeout_s) as pool:
        url = f"{destination.url.rstrip('/')}/studies?limit=1"
        answer = pool.request("GET", url, headers={**destination.headers(), "Accept": _JSON}, preload_content=False)
        answer.close()
    _refuse_gateways(destination, answer.status)
    if answer.status in (401, 403):
        raise _not_let_in(destination, answer.status)
    return int(answer.status)


def store_at(
    destination: WebDestination, offers: Sequence[Sequence[Path]], *, timeout_s: float
) -> tuple[StoreReceipt, ...]:
    """Send one of several sets of files; gives a receipt for each file, in their order.

    The next set is sent where the destination does not support a SOP class of the one before; of the last set what it
    does not support is refused.

    Parameters
    ----------
    timeout_s
        Longest wait for a connection, and, beyond the time that the bytes may take, for the answer.

    Raises
    ------
    UnreachableError
        Nothing answers at that address.
    PeerError
        It answers, but not to the point, or does not let us in, or has no room. Some objects may have been stored.
    InputError
        A file is no DICOM file.
    SetupError
        A file with a secret cannot be read.
    OSError
        A file cannot be read.
    """
    for files in offers[:-1]:
        receipts = _store(destination, files, timeout_s)
        if not any(one.status == _SOP_CLASS_NOT_SUPPORTED for one in receipts):
            return receipts
    return _store(destination, offers[-1], timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    path: Path
    # What is sent in the file's place; None: the file.
    encoded: bytes | None
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    byte_count: int


def _store(destination: WebDestination, files: Sequence[Path], timeout_s: float) -> tuple[StoreReceipt, ...]:
    started = time.monotonic()
    parts = [_read_part(path) for path in files]
    body = _Body(parts)
    headers = {
        **destination.headers(),
        "Accept": _JSON,
        # PS3.18 8.6.1.2.1: the type of a multipart message stands in quotes.
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={body.boundary}',
        "Content-Length": str(body.byte_count),
    }
    patience_s = timeout_s + body.byte_count / _SLOWEST_BYTES_PER_S
    with _in_our_words(destination), _pool(destination, timeout_s, patience_s) as pool:
        url = f"{destination.url.rstrip('/')}/studies"
        answer = pool.request("POST", url, body=iter(body), headers=headers, preload_content=False)
        content = answer.read(_LONGEST_ANSWER)
        answer.close()
    took_s = time.monotonic() - started
    statuses = _statuses(destination, parts, answer.status, content)
    return tuple(_receipt(part, statuses[part.sop_instance_uid], took_s) for part in parts)


class _Body:
    """A multipart/related message whose length is known before it is read (RFC 2387)."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self.boundary = f"delineate-{secrets.token_hex(16)}"
        self._parts = parts
        # Without the parameter transfer-syntax, which is optional and which the file says itself: Orthanc 1.10 leaves
        # out a part that has it, and answers 200.
        self._head = f"--{self.boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"--{self.boundary}--\r\n".encode()

    @property
    def byte_count(self) -> int:
        """Give the length of all."""
        return sum(len(self._head) + part.byte_count + 2 for part in self._parts) + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield self._head
            with io.BytesIO(part.encoded) if part.encoded is not None else part.path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
            yield b"\r\n"
        yield self._tail


def _read_part(path: Path) -> _Part:
    try:
        meta = read_file_meta_info(path)
        encoded = in_explicit_vr(path.read_bytes()) if meta.TransferSyntaxUID == _IMPLICIT_VR_LITTLE_ENDIAN else None
        return _Part(
            path=path,
            encoded=encoded,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID) if encoded is None else _EXPLICIT_VR_LITTLE_ENDIAN,
            byte_count=path.stat().st_size if encoded is None else len(encoded),
        )
    except (InvalidDicomError, AttributeError) as error:
        raise InputError(f"{path.name} is not a DICOM file with File Meta Information.") from error


def _statuses(
    destination: WebDestination, parts: Sequence[_Part], http_status: int, content: bytes
) -> Mapping[str, int]:
    """Give each object's status by its SOP Instance UID.

    PS3.18 10.5.3: 200 says that all are stored, 202 that some are, 409 that none is; which, and why, says the content.
    What it does not name is not stored, whatever the status: that is what a server says that read no part.
    """
    _refuse_gateways(destination, http_status)
    if http_status in (401, 403):
        raise _not_let_in(destination, http_status)
    told = _told(content)
    missing = [part for part in parts if part.sop_instance_uid not in told]
    if missing and http_status == 415:
        return {part.sop_instance_uid: _SOP_CLASS_NOT_SUPPORTED for part in parts}
    if missing and http_status in _OUT_OF_RESOURCES:
        return {part.sop_instance_uid: 0xA700 for part in parts}
    if missing:
        raise PeerError(
            f"{destination.name} answered with HTTP status {http_status} and told nothing of {len(missing)} of "
            f"{len(parts)} objects."
        )
    return told


def _told(content: bytes) -> dict[str, int]:
    """Read the Store Instances Response Module; nothing where that is not what came."""
    try:
        answer = json.loads(content)
        module = answer[0] if isinstance(answer, list) else answer
        stored = {_value(item, _INSTANCE): _value(item, _WARNING_REASON, 0) for item in _items(module, _STORED)}
        failed = {_value(item, _INSTANCE): _value(item, _FAILURE_REASON, 0x0110) for item in _items(module, _FAILED)}
        return {str(uid): int(status) for uid, status in {**stored, **failed}.items()}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _items(module: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    return list(module.get(tag, {}).get("Value", []))


def _value(item: Mapping[str, Any], tag: str, otherwise: Any = None) -> Any:
    return item[tag]["Value"][0] if otherwise is None or tag in item else otherwise


def _receipt(part: _Part, status: int, took_s: float) -> StoreReceipt:
    return StoreReceipt(
        sop_instance_uid=part.sop_instance_uid,
        sop_class_uid=part.sop_class_uid,
        transfer_syntax_uid=part.transfer_syntax_uid,
        **meaning_of(status),
        took_s=took_s,
    )


def _pool(destination: WebDestination, timeout_s: float, patience_s: float | None = None) -> urllib3.PoolManager:
    # No retries: they are the outbox's. No redirect: what we send, and the secret with it, goes where we were told.
    return urllib3.PoolManager(
        retries=False,
        timeout=urllib3.Timeout(connect=timeout_s, read=patience_s or timeout_s),
        # None: urllib3's own, TLS 1.2 or newer, which trusts the system's authorities.
        ssl_context=destination.tls,
    )


@contextmanager
def _in_our_words(destination: WebDestination) -> Iterator[None]:
    who = f"{destination.name} ({destination.url})"
    try:
        yield
    except LocationValueError as error:
        raise SetupError(f"{who} is no address.", "Mend the destination's stow.") from error
    except HTTPError as error:
        raise _said_of(who, error) from error


# The special before the general.
_CAUSES: tuple[tuple[type[HTTPError], str, type[PeerError]], ...] = (
    (NameResolutionError, ": the host name cannot be resolved", UnreachableError),
    (NewConnectionError, " cannot be reached: connection refused, or no way there", UnreachableError),
    (ConnectTimeoutError, " cannot be reached: no answer", UnreachableError),
    (ReadTimeoutError, " did not answer in time", PeerError),
    (ProtocolError, " ended the connection instead of answering", PeerError),
    (HTTPError, " gave no answer that can be understood", PeerError),
)


def _said_of(who: str, error: HTTPError) -> PeerError:
    if isinstance(error, SSLError):
        return UnreachableError(f"{who}: no TLS connection ({_certificate_fault(error)}).")
    words, kind = next((words, kind) for cause, words, kind in _CAUSES if isinstance(error, cause))
    return kind(f"{who}{words}.")


def _certificate_fault(error: BaseException) -> str:
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or type(cause).__name__)


def _refuse_gateways(destination: WebDestination, http_status: int) -> None:
    if http_status in _GATEWAY_WITHOUT_SERVER:
        raise UnreachableError(f"{destination.name}: a gateway answers without a server (HTTP status {http_status}).")


def _not_let_in(destination: WebDestination, http_status: int) -> PeerError:
    remedy = "Give the destination a token_file or login_file that its server accepts."
    return PeerError(f"{destination.name} does not let us in (HTTP status {http_status}).", remedy)


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read.", "Put the token, or user:password, into it.") from error
