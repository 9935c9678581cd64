"""STOW-RS to Orthanc's DICOMweb plugin, and to an origin server that answers as told."""

import io
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from node.adapters.stow import WebDestination, probe, store_at
from node.adapters.tls import ClientIdentity, ServerIdentity, client_context, server_context
from node.domain.errors import InputError, PeerError, SetupError, UnreachableError
from tests.acceptance.test_peers import absent, orthanc, require
from tests.acceptance.test_tls import Authority
from tests.fakes import EXPLICIT, IMPLICIT, LABEL_MAP_SEGMENTATION, RT_STRUCTURE_SET, SEGMENTATION, free_port
from tests.integration.test_storage_scu import object_file

ORTHANC_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass
class Origin:
    """An origin server: answers every POST as told, and keeps what came."""

    status: int = 200
    answer: Any = None
    # Status of the answer to GET.
    probe_status: int = 200
    # Ends the connection instead of answering.
    hangs_up: bool = False
    posted: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def parts(self) -> list[bytes]:
        """Give the parts of the last message."""
        headers, body = self.posted[-1]
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        message = message_from_bytes(head + body, policy=HTTP)
        assert message.get_content_type() == "multipart/related"
        read = []
        for part in message.iter_parts():
            assert part.get_content_type() == "application/dicom"
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            read.append(content)
        return read


def serving(origin: Origin) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            origin.posted.append((dict(self.headers), body))
            if origin.hangs_up:
                self.connection.close()
                return
            content = json.dumps(origin.answer).encode() if origin.answer is not None else b""
            self._say(origin.status, content)

        def do_GET(self) -> None:
            origin.asked.append((self.path, dict(self.headers)))
            self._say(origin.probe_status, b"[]")

        def _say(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def origin() -> Iterator[Origin]:
    made = Origin()
    server = serving(made)
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def destination(url: str, **more: Any) -> WebDestination:
    return WebDestination(name="web", url=url, **more)


def send(url: str, *offers: Sequence[Path], **more: Any) -> Any:
    return store_at(destination(url, **more), list(offers), timeout_s=5.0)


def item(path: Path, reason_tag: str = "", reason: int = 0) -> dict[str, Any]:
    meta = read_file_meta_info(path)
    said: dict[str, Any] = {
        "00081150": {"vr": "UI", "Value": [str(meta.MediaStorageSOPClassUID)]},
        "00081155": {"vr": "UI", "Value": [str(meta.MediaStorageSOPInstanceUID)]},
    }
    if reason_tag:
        said[reason_tag] = {"vr": "US", "Value": [reason]}
    return said


def answer(stored: Sequence[dict[str, Any]] = (), failed: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    module = {"00081199": {"vr": "SQ", "Value": list(stored)}, "00081198": {"vr": "SQ", "Value": list(failed)}}
    return {tag: element for tag, element in module.items() if element["Value"]}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)]


def test_files_go_out_byte_for_byte_in_one_message_of_known_length(origin: Origin, files: list[Path]) -> None:
    origin.answer = answer([item(path) for path in files])

    receipts = send(origin.url, files)

    assert [one.outcome for one in receipts] == ["stored", "stored"]
    assert origin.parts() == [path.read_bytes() for path in files]
    headers, body = origin.posted[0]
    assert int(headers["Content-Length"]) == len(body)
    assert headers["Accept"] == "application/dicom+json"
    assert 'type="application/dicom"' in headers["Content-Type"]


def test_contours_go_in_explicit_vr_unless_that_would_make_them_unreadable(origin: Origin, tmp_path: Path) -> None:
    long = object_file(tmp_path, RT_STRUCTURE_SET)  # a Contour Data of 80,000 bytes
    short = object_file(tmp_path, RT_STRUCTURE_SET, "short")
    dataset = dcmread(short)
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData = ["-123.45"] * 9
    dataset.save_as(short)

    origin.answer = answer([item(long), item(short)])
    as_it_is, converted = send(origin.url, [long, short])

    assert (as_it_is.transfer_syntax_uid, converted.transfer_syntax_uid) == (IMPLICIT, EXPLICIT)
    sent_long, sent_short = origin.parts()
    assert sent_long == long.read_bytes()
    read = dcmread(io.BytesIO(sent_short))
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read == dcmread(short)
    assert read.ROIContourSequence[0].ContourSequence[0]["ContourData"].VR == "DS"


def test_each_object_has_the_answer_that_is_its_own(origin: Origin, files: list[Path]) -> None:
    origin.status = 202
    origin.answer = answer([item(files[0], "00081196", 0xB000)], [item(files[1], "00081197", 0xA900)])

    structures, segments = send(origin.url, files)

    assert (structures.outcome, structures.status) == ("stored with warning", 0xB000)
    assert (segments.outcome, segments.status, segments.worth_retrying) == ("refused", 0xA900, False)


def test_who_lacks_room_is_sent_again_later(origin: Origin, files: list[Path]) -> None:
    origin.status = 503

    assert {(one.status, one.worth_retrying) for one in send(origin.url, files)} == {(0xA700, True)}


@pytest.mark.parametrize("said", [None, {}, "<NativeDicomModel/>"])
def test_a_success_that_names_no_object_is_none(origin: Origin, files: list[Path], said: Any) -> None:
    origin.answer = said

    with pytest.raises(PeerError, match="told nothing of 2 of 2"):
        send(origin.url, files)


def test_an_object_that_a_partial_success_says_nothing_of_is_no_success(origin: Origin, files: list[Path]) -> None:
    origin.status, origin.answer = 202, answer([item(files[0])])

    with pytest.raises(PeerError, match="told nothing of 1 of 2"):
        send(origin.url, files)


def test_of_two_offers_the_next_is_sent_where_a_class_is_not_supported(origin: Origin, tmp_path: Path) -> None:
    label_map, binary = object_file(tmp_path, LABEL_MAP_SEGMENTATION), object_file(tmp_path, SEGMENTATION)
    origin.answer = answer([item(binary)], [item(label_map, "00081197", 0x0122)])

    receipts = send(origin.url, [label_map], [binary])

    assert [one.outcome for one in receipts] == ["stored"]
    assert len(origin.posted) == 2


@pytest.mark.parametrize(("status", "words"), [(401, "does not let us in"), (400, "HTTP status 400"), (302, "302")])
def test_what_is_no_answer_to_a_store_is_said_and_tried_again(
    origin: Origin, files: list[Path], status: int, words: str
) -> None:
    origin.status = status

    with pytest.raises(PeerError, match=words) as caught:
        send(origin.url, files)
    assert not isinstance(caught.value, UnreachableError)


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_without_a_server_is_nobody(origin: Origin, files: list[Path], status: int) -> None:
    origin.status = origin.probe_status = status

    with pytest.raises(UnreachableError, match="gateway"):
        send(origin.url, files)
    with pytest.raises(UnreachableError, match="gateway"):
        probe(destination(origin.url), timeout_s=5.0)


def test_who_hangs_up_instead_of_answering_is_named(origin: Origin, files: list[Path]) -> None:
    origin.hangs_up = True

    with pytest.raises(PeerError, match="ended the connection"):
        send(origin.url, files)


def test_who_is_not_there_is_told_apart(files: list[Path]) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/dicom-web"

    with pytest.raises(UnreachableError, match="cannot be reached"):
        send(nowhere, files)
    with pytest.raises(UnreachableError, match="cannot be reached"):
        probe(destination(nowhere), timeout_s=5.0)


def test_secrets_are_read_at_every_call_and_never_said(origin: Origin, files: list[Path], tmp_path: Path) -> None:
    token, login = tmp_path / "token", tmp_path / "login"
    origin.answer = answer([item(path) for path in files])
    token.write_text("first\n")
    login.write_text("node:secret\n")

    send(origin.url, files, token=token)
    token.write_text("second\n")
    send(origin.url, files, token=token)
    send(origin.url, files, login=login)
    probe(destination(origin.url, token=token), timeout_s=5.0)

    sent = [headers["Authorization"] for headers, _ in origin.posted]
    assert sent == ["Bearer first", "Bearer second", "Basic bm9kZTpzZWNyZXQ="]
    assert origin.asked[0][1]["Authorization"] == "Bearer second"
    assert "second" not in repr(destination(origin.url, token=token))
    token.unlink()
    with pytest.raises(SetupError, match="cannot be read"):
        send(origin.url, files, token=token)


def test_a_probe_asks_for_one_study_and_takes_any_answer_for_a_server(origin: Origin) -> None:
    origin.probe_status = 404

    assert probe(destination(origin.url), timeout_s=5.0) == 404
    assert origin.asked[0][0] == "/dicom-web/studies?limit=1"


def test_a_file_that_is_no_dicom_is_our_own_fault(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "no.dcm"
    path.write_bytes(b"nothing")

    with pytest.raises(InputError, match=r"no\.dcm"):
        send(origin.url, [path])


@pytest.mark.peers
def test_a_server_is_spoken_to_by_tls_only_if_its_authority_is_ours(files: list[Path], tmp_path: Path) -> None:
    require("openssl")
    hospital, stranger = Authority.found(tmp_path / "hospital"), Authority.found(tmp_path / "stranger")
    key, certificate = hospital.issue("web")
    made = Origin(answer=answer([item(path) for path in files]))
    server = serving(made)
    server.socket = server_context(ServerIdentity(certificate=certificate, key=key)).wrap_socket(
        server.socket, server_side=True
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}/dicom-web"

    trusting = client_context(ClientIdentity(ca=hospital.certificate))
    assert [one.outcome for one in send(url, files, tls=trusting)] == ["stored", "stored"]
    for wary in (client_context(ClientIdentity(ca=stranger.certificate)), None):
        with pytest.raises(UnreachableError, match=r"no TLS connection"):
            send(url, files, tls=wary)
    server.shutdown()
    server.server_close()


@pytest.mark.peers
def test_orthanc_takes_what_we_send_and_gives_it_back_as_it_was(files: list[Path], tmp_path: Path) -> None:
    require("Orthanc")
    if not ORTHANC_DICOMWEB.exists():
        absent("orthanc-dicomweb")

    web_port = free_port()
    with orthanc(tmp_path, {"Plugins": [str(ORTHANC_DICOMWEB)], "HttpPort": web_port}) as (_, http):
        web = destination(f"http://127.0.0.1:{web_port}/dicom-web")
        assert probe(web, timeout_s=10.0) == 200
        receipts = store_at(web, [files], timeout_s=30.0)
        again = store_at(web, [files], timeout_s=30.0)
        kept = [http(f"/instances/{one}/file") for one in json.loads(http("/instances"))]

    assert [one.outcome for one in receipts] == ["stored", "stored"]
    assert all(one.outcome != "refused" for one in again)
    assert sorted(kept) == sorted(path.read_bytes() for path in files)
