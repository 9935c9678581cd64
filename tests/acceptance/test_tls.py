"""TLS at the receiver, tried by DCMTK, Orthanc and by hand; certificates are made here with openssl."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.domain.delivery import PeerAddress
from tests.acceptance.running import RunningNode, run, run_delineate
from tests.acceptance.test_peers import orthanc, require
from tests.acceptance.test_senders import assert_kept_once_each, series, settled
from tests.builders import save_series, uid
from tests.fakes import free_port
from tests.integration.test_series_real import LOSSLESS_CT, ct_in
from tests.raw_sender import IMPLICIT, VERIFICATION, Instance, RawAssociation, data_set_of

pytestmark = pytest.mark.peers

ECHO = (VERIFICATION, [IMPLICIT])


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority in a folder."""

    folder: Path

    @classmethod
    def found(cls, folder: Path) -> "Authority":
        """Make an authority."""
        folder.mkdir()
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={folder.name}"),
            *("-keyout", folder / "ca.key", "-out", folder / "ca.pem"),
        )
        return cls(folder=folder)

    @property
    def certificate(self) -> Path:
        """Give the file of its own certificate."""
        return self.folder / "ca.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """Give the files of a new key and of its certificate, for this machine."""
        key, request, certificate = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate),
        )
        return key, certificate


def openssl(*arguments: str | Path) -> None:
    done = run(["openssl", *arguments])
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require("openssl")
    return Authority.found(tmp_path_factory.mktemp("authorities") / "hospital")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require("openssl")
    return Authority.found(tmp_path_factory.mktemp("authorities") / "stranger")


@pytest.fixture(scope="module")
def scanner(hospital: Authority) -> tuple[Path, Path]:
    """Give key and certificate of a scanner that the hospital knows."""
    return hospital.issue("scanner")


class TlsNode(RunningNode):
    """A node with a TLS port."""

    def __init__(self, folder: Path, authority: Authority, *more: str) -> None:
        self.key_path, certificate = authority.issue(f"node-{folder.name}")
        self.tls_port = free_port()
        section = [
            "[receiver.tls]",
            f"port = {self.tls_port}",
            f'certificate = "{certificate}"',
            f'key = "{self.key_path}"',
            *more,
        ]
        super().__init__(
            folder,
            destination_port=free_port(),
            settle_s=0.5,
            quiet_period_s=2.0,
            more="\n" + "\n".join(section) + "\n",
        )

    @property
    def tls_address(self) -> PeerAddress:
        """Give where it listens for TLS."""
        return replace(self.address, port=self.tls_port)


@pytest.fixture(scope="module")
def open_node(tmp_path_factory: pytest.TempPathFactory, hospital: Authority) -> Iterator[TlsNode]:
    """Give a node that anybody may call, with TLS or without."""
    with TlsNode(tmp_path_factory.mktemp("open"), hospital) as node:
        yield node


@pytest.fixture(scope="module")
def strict_node(tmp_path_factory: pytest.TempPathFactory, hospital: Authority) -> Iterator[TlsNode]:
    """Give a node that only those may call who show a certificate of the hospital."""
    demanded = f'client_ca = "{hospital.certificate}"'
    with TlsNode(tmp_path_factory.mktemp("strict"), hospital, demanded, "only = true") as node:
        yield node


def dcmtk(program: str, node: TlsNode, *options: str | Path, paths: tuple[Path, ...] = ()) -> str:
    """Run a program of DCMTK against the TLS port; gives what it said, with a line on how it ended."""
    require(program)
    who = ["-aet", "SCANNER", "-aec", "DELINEATE"]
    patience = ["-to", "10", "-ta", "10"]
    done = run([program, *options, *patience, *who, "127.0.0.1", str(node.tls_port), *paths])
    return f"{done.stdout}{done.stderr}\nended with {done.returncode}"


def client(authority: Authority, known_as: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """Give a client that trusts an authority."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if known_as:
        key, certificate = known_as
        context.load_cert_chain(certificate, key)
    return context


def assert_answers(node: TlsNode, context: ssl.SSLContext) -> None:
    with RawAssociation(node.tls_address, [ECHO], tls=context) as association:
        assert association.echo().status == 0x0000


# A node that anybody may call ----------------------------------------------------------------------------------------


def test_dcmtk_echoes_and_sends_over_tls_without_a_certificate(
    open_node: TlsNode, hospital: Authority, tmp_path: Path
) -> None:
    trusting = ("--anonymous-tls", "--add-cert-file", hospital.certificate)
    datasets = series("tls anonymous")

    echoed = dcmtk("echoscu", open_node, *trusting)
    stored = dcmtk("storescu", open_node, *trusting, paths=tuple(save_series(datasets, tmp_path)))

    assert echoed.endswith("ended with 0"), echoed
    assert stored.endswith("ended with 0"), stored
    assert_kept_once_each(open_node, "tls anonymous", datasets)
    assert settled(open_node, uid("tls anonymous", "series"))["state"] == "complete"


@pytest.mark.parametrize("profile", ["--profile-bcp195-nd", "--profile-bcp195", "--profile-bcp195-ex"])
def test_dcmtk_agrees_on_every_current_security_profile(
    open_node: TlsNode, hospital: Authority, scanner: tuple[Path, Path], profile: str
) -> None:
    # PS3.15 B.9, B.10 and B.11.
    said = dcmtk("echoscu", open_node, "--enable-tls", *scanner, profile, "--add-cert-file", hospital.certificate)

    assert said.endswith("ended with 0"), said


def test_dcmtk_that_trusts_another_authority_does_not_talk_to_us(
    open_node: TlsNode, hospital: Authority, stranger: Authority
) -> None:
    said = dcmtk("echoscu", open_node, "--anonymous-tls", "--add-cert-file", stranger.certificate)

    assert not said.endswith("ended with 0")
    assert "certificate" in said.lower()
    assert_answers(open_node, client(hospital))


def test_the_unencrypted_port_stays_open_beside(open_node: TlsNode) -> None:
    with RawAssociation(open_node.address, [ECHO]) as association:
        assert association.echo().status == 0x0000


def test_dicom_without_tls_at_the_tls_port_is_turned_away_and_harms_nobody(
    open_node: TlsNode, hospital: Authority
) -> None:
    said = dcmtk("echoscu", open_node)

    assert not said.endswith("ended with 0")
    assert_answers(open_node, client(hospital))


def test_callers_that_never_begin_to_speak_tls_keep_nobody_waiting(open_node: TlsNode, hospital: Authority) -> None:
    # A SYN that a busy machine loses is sent again after 1, 3, 7 and 15 s.
    silent = [socket.create_connection(("127.0.0.1", open_node.tls_port), timeout=30) for _ in range(30)]
    for connection in silent[:15]:
        connection.sendall(b"\x16\x03\x01")

    assert_answers(open_node, client(hospital))

    for connection in silent:
        connection.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused(open_node: TlsNode, hospital: Authority) -> None:
    old = client(hospital)
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1

    with pytest.raises(OSError, match=r"TLS|tls|SSL|reset|closed"):
        RawAssociation(open_node.tls_address, [ECHO], tls=old)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_versions_of_tls_are_spoken(open_node: TlsNode, hospital: Authority, version: ssl.TLSVersion) -> None:
    context = client(hospital)
    context.minimum_version = context.maximum_version = version

    assert_answers(open_node, context)


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore")
def test_images_come_through_tls_byte_for_byte(open_node: TlsNode, hospital: Authority) -> None:
    sent = [Instance.read(ct_in(syntax)) for syntax in LOSSLESS_CT]
    contexts = [(one.sop_class_uid, [one.transfer_syntax_uid]) for one in sent]

    with RawAssociation(open_node.tls_address, contexts, tls=client(hospital)) as association:
        statuses = {association.store(one).status for one in sent}

    assert statuses == {0x0000}
    kept = {data_set_of(path) for path in (open_node.folder / "var/inbox").rglob("*.dcm")}
    assert {one.data_set for one in sent} <= kept


def test_several_send_over_tls_at_once_and_one_of_them_vanishes(
    open_node: TlsNode, hospital: Authority, tmp_path: Path
) -> None:
    names = ["tls one", "tls two", "tls three"]
    built = {name: series(name, slices=8) for name in names}
    files = {name: [Instance.read(path) for path in save_series(built[name], tmp_path / name)] for name in names}
    context = (files["tls one"][0].sop_class_uid, [files["tls one"][0].transfer_syntax_uid])
    vanishing = RawAssociation(open_node.tls_address, [context], tls=client(hospital))
    vanishing.send_half(files["tls one"][0])

    def send(name: str) -> None:
        with RawAssociation(open_node.tls_address, [context], tls=client(hospital)) as association:
            for one in files[name]:
                association.store(one)

    threads = [threading.Thread(target=send, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    vanishing.vanish()
    for thread in threads:
        thread.join()

    for name in names:
        assert_kept_once_each(open_node, name, built[name])


# A node that only those may call whom the hospital knows -------------------------------------------------------------


def test_there_is_no_unencrypted_port_where_tls_only_is_asked_for(strict_node: TlsNode) -> None:
    with pytest.raises(ConnectionRefusedError):
        RawAssociation(strict_node.address, [ECHO])


def test_dcmtk_echoes_and_sends_with_a_certificate_of_the_hospital(
    strict_node: TlsNode, hospital: Authority, scanner: tuple[Path, Path], tmp_path: Path
) -> None:
    known = ("--enable-tls", *scanner, "--add-cert-file", hospital.certificate)
    datasets = series("tls mutual")

    echoed = dcmtk("echoscu", strict_node, *known)
    stored = dcmtk("storescu", strict_node, *known, paths=tuple(save_series(datasets, tmp_path)))

    assert echoed.endswith("ended with 0"), echoed
    assert stored.endswith("ended with 0"), stored
    assert_kept_once_each(strict_node, "tls mutual", datasets)


def test_who_shows_no_certificate_is_turned_away_and_the_log_says_why(
    strict_node: TlsNode, hospital: Authority, scanner: tuple[Path, Path]
) -> None:
    said = dcmtk("echoscu", strict_node, "--anonymous-tls", "--add-cert-file", hospital.certificate)

    assert not said.endswith("ended with 0")
    assert "certificate" in strict_node.log.lower()
    assert_answers(strict_node, client(hospital, scanner))


def test_who_shows_a_certificate_of_another_authority_is_turned_away_and_nothing_is_kept(
    strict_node: TlsNode, hospital: Authority, stranger: Authority, scanner: tuple[Path, Path], tmp_path: Path
) -> None:
    impostor = stranger.issue("scanner")
    paths = tuple(save_series(series("tls impostor"), tmp_path))

    said = dcmtk(
        *("storescu", strict_node, "--enable-tls", *impostor),
        *("--add-cert-file", hospital.certificate),
        paths=paths,
    )

    assert not said.endswith("ended with 0")
    assert not (strict_node.folder / "var/inbox" / uid("tls impostor", "series")).exists()
    assert_answers(strict_node, client(hospital, scanner))


def test_orthanc_sends_over_tls_with_a_certificate_of_the_hospital(
    strict_node: TlsNode, hospital: Authority, tmp_path: Path
) -> None:
    require("Orthanc")
    key, certificate = hospital.issue("orthanc")
    settings = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificate),
        "DicomTlsPrivateKey": str(key),
        "DicomTlsTrustedCertificates": str(hospital.certificate),
        "DicomModalities": {
            "node": {"AET": "DELINEATE", "Host": "127.0.0.1", "Port": strict_node.tls_port, "UseDicomTls": True}
        },
    }
    datasets = series("tls orthanc")
    with orthanc(tmp_path, settings) as (_, http):
        http("/modalities/node/echo", b"{}")
        files = save_series(datasets, tmp_path / "series")
        uploaded = [json.loads(http("/instances", path.read_bytes()))["ID"] for path in files]
        wanted = json.dumps({"Resources": uploaded, "Synchronous": True}).encode()
        answer = json.loads(http("/modalities/node/store", wanted))

    assert answer["FailedInstancesCount"] == 0
    assert_kept_once_each(strict_node, "tls orthanc", datasets)


# What is configured wrongly ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [("certificate", "/nowhere/node.pem"), ("key", "/nowhere/node.key"), ("client_ca", "/nowhere/ca.pem")],
)
def test_a_file_that_is_not_there_stops_the_start_and_is_named(
    tmp_path: Path, hospital: Authority, key: str, value: str
) -> None:
    node = TlsNode(tmp_path, hospital)
    text = node.config_path.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(f"{key} = ")]
    node.config_path.write_text("\n".join([*lines, f'{key} = "{value}"', ""]))

    done = run_delineate("serve", "--config", str(node.config_path), "--role", "receiver")

    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert value in said
    assert "Traceback" not in said


def test_a_key_that_does_not_belong_to_the_certificate_stops_the_start_with_words(
    tmp_path: Path, hospital: Authority
) -> None:
    node = TlsNode(tmp_path, hospital)
    other, _ = hospital.issue("other")
    text = node.config_path.read_text()
    node.config_path.write_text(text.replace(str(node.key_path), str(other)))

    done = run_delineate("serve", "--config", str(node.config_path), "--role", "receiver")

    assert done.returncode != 0
    assert str(other) in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
