"""TLS on the way out: to DCMTK's storescp and to our own receiver, which insists on certificates as hospitals do."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from node.adapters.calling import TlsLine
from node.adapters.inbox import Inbox
from node.adapters.scp_settings import ReceiverSettings, TlsDoor
from node.adapters.storage_scp import Receiver
from node.adapters.storage_scu import echo, store_best
from node.adapters.tls import ClientIdentity, ServerIdentity, client_context, server_context
from node.domain.arrival import Unobserved
from node.domain.delivery import PeerAddress
from node.domain.errors import PeerError, SetupError, UnreachableError
from node.domain.peers import AssociationPolicy
from node.stages.receive import begin
from tests.acceptance.test_peers import require
from tests.acceptance.test_tls import Authority
from tests.builders import ct_series, grid, save_series
from tests.fakes import RT_STRUCTURE_SET, SEGMENTATION, free_port
from tests.integration.test_storage_scu import data_set_bytes, object_file

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require("openssl")
    return Authority.found(tmp_path_factory.mktemp("authorities") / "hospital")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    require("openssl")
    return Authority.found(tmp_path_factory.mktemp("authorities") / "stranger")


def line(authority: Authority, known_as: tuple[Path, Path] | None = None, name: str = "127.0.0.1") -> TlsLine:
    key, certificate = known_as or (None, None)
    identity = ClientIdentity(ca=authority.certificate, certificate=certificate, key=key)
    return TlsLine(context=client_context(identity), server_name=name)


def calls(address: PeerAddress, tls: TlsLine | None) -> float:
    return echo(address, calling_ae_title="DELINEATE", timeout_s=10.0, tls=tls)


@contextmanager
def storescp(folder: Path, authority: Authority, *options: str) -> Iterator[tuple[PeerAddress, Path]]:
    """Run DCMTK's storescp with TLS."""
    require("storescp")
    kept = folder / "storescp"
    kept.mkdir()
    key, certificate = authority.issue("storescp")
    address = PeerAddress(name="dcmtk", ae_title="DCMTK", host="127.0.0.1", port=free_port())
    tls = ["+tls", str(key), str(certificate), "+cf", str(authority.certificate), *options]
    process = subprocess.Popen(["storescp", "-aet", "DCMTK", "-od", str(kept), "-B", *tls, str(address.port)])
    try:
        ours = line(authority, authority.issue("node"))
        wait_for(lambda: calls(address, ours) >= 0)
        yield address, kept
    finally:
        process.terminate()
        process.wait(10)


def wait_for(succeeds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            succeeds()
        except PeerError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


def test_dcmtk_stores_what_we_send_over_tls_byte_for_byte(tmp_path: Path, hospital: Authority) -> None:
    files = [object_file(tmp_path, RT_STRUCTURE_SET), object_file(tmp_path, SEGMENTATION)]

    with storescp(tmp_path, hospital) as (address, kept):
        receipts = store_best(
            address, [files], calling_ae_title="DELINEATE", tls=line(hospital, hospital.issue("node-2"))
        )
        stored = sorted(data_set_bytes(path) for path in kept.iterdir())

    assert [one.outcome for one in receipts] == ["stored", "stored"]
    assert stored == sorted(data_set_bytes(path) for path in files)


def test_dcmtk_that_asks_for_a_certificate_gets_ours_or_no_association(
    tmp_path: Path, hospital: Authority, stranger: Authority
) -> None:
    with storescp(tmp_path, hospital) as (address, _):
        for unknown in (None, stranger.issue("stranger-node")):
            with pytest.raises(PeerError):
                calls(address, line(hospital, unknown))


@contextmanager
def own_receiver(folder: Path, authority: Authority) -> Iterator[tuple[PeerAddress, Inbox]]:
    key, certificate = authority.issue("receiver")
    context = server_context(ServerIdentity(certificate=certificate, key=key, client_ca=authority.certificate))
    inbox = Inbox(folder / "inbox", minimum_free_gb=0)
    settings = ReceiverSettings(
        host="127.0.0.1",
        port=None,
        association=AssociationPolicy(ae_title="OTHER"),
        tls=TlsDoor(port=0, context=context),
    )
    receiver = Receiver(settings, begin=lambda arrival: begin(arrival, inbox), observer=Unobserved())
    receiver.start()
    try:
        yield PeerAddress(name="other", ae_title="OTHER", host="127.0.0.1", port=receiver.port), inbox
    finally:
        receiver.stop()


def test_our_own_receiver_takes_what_we_send_over_tls(tmp_path: Path, hospital: Authority) -> None:
    files: Sequence[Path] = save_series(ct_series(grid(slices=3)), tmp_path / "series")

    with own_receiver(tmp_path, hospital) as (address, inbox):
        receipts = store_best(
            address, [files], calling_ae_title="DELINEATE", tls=line(hospital, hospital.issue("node-3"))
        )
        (series,) = list(inbox.stamps())
        names = inbox.file_names(series)

    assert [one.outcome for one in receipts] == ["stored"] * 3
    assert len(names) == 3


def test_who_is_not_who_he_should_be_is_named_and_nothing_is_sent(
    tmp_path: Path, hospital: Authority, stranger: Authority
) -> None:
    ours = hospital.issue("node-4")

    with own_receiver(tmp_path, hospital) as (address, _):
        with pytest.raises(UnreachableError, match="its certificate is not accepted"):
            calls(address, line(stranger, ours))
        with pytest.raises(UnreachableError, match="its certificate is not accepted"):
            calls(address, line(hospital, ours, name="another.clinic.example"))
        assert calls(address, line(hospital, ours)) > 0


def test_who_speaks_no_tls_is_told_apart(tmp_path: Path, hospital: Authority) -> None:
    settings = ReceiverSettings(host="127.0.0.1", port=0, association=AssociationPolicy(ae_title="OTHER"))
    receiver = Receiver(settings, begin=lambda _: pytest.fail("nothing is sent"), observer=Unobserved())
    receiver.start()
    try:
        address = PeerAddress(name="plain", ae_title="OTHER", host="127.0.0.1", port=receiver.port)
        with pytest.raises(UnreachableError, match="cannot be reached"):
            calls(address, line(hospital))
    finally:
        receiver.stop()


@pytest.mark.parametrize("missing", ["ca", "certificate", "key"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, hospital: Authority, missing: str) -> None:
    key, certificate = hospital.issue("node-5")
    files = {"ca": hospital.certificate, "certificate": certificate, "key": key, missing: tmp_path / "nowhere.pem"}

    with pytest.raises(SetupError, match=r"nowhere\.pem is not there"):
        client_context(ClientIdentity(**files))
